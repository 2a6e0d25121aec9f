"""Settings of every test of the project."""

from __future__ import annotations

from hypothesis import settings

# No deadline: machines differ, and the first example often pays for an import. The same examples on every run, so that
# a test fails for a change of the code and for nothing else.
settings.register_profile("shiftproof", deadline=None, derandomize=True)
settings.load_profile("shiftproof")
