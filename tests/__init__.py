"""End to end: what a person types, and what lies on the disk afterwards."""
