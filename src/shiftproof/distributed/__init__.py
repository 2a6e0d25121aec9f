"""Work on many machines: bulk prediction and benchmark runs on a Ray cluster."""
