"""The command ``dlk``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits the process; see ``dlk --help``."""
    try:
        from dlk.cli.app import run
    except ImportError as error:  # a package or the engine's library is missing or broken
        print(
            f"dlk: {error}; install dlk-engine again (pip install --force-reinstall)",
            file=sys.stderr,
        )
        sys.exit(2)
    run(arguments)
