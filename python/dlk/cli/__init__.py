"""The command ``dlk``."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits the process; see ``dlk --help``."""
    from dlk.cli.app import run

    run(arguments)
