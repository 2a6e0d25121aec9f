"""``python -m shiftproof`` is the command ``shiftproof``."""

from shiftproof.cli import main

main()
