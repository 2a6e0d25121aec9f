"""The inspection station: models behind HTTP, with a memory of every inspection.

It runs without torch where its models are exported. What it needs beyond the base install is in ``shiftproof[serve]``.
"""
