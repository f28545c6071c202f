"""``python -m dlk`` is the command ``dlk``."""

from dlk.cli import main

main()
