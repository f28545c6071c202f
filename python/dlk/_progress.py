"""Progress of downloads and first-run kernel compilation, shown by whoever wants to show it.

The library calls ``report``; it does nothing until somebody (the command line) enters ``shown``.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

__all__ = ["report", "shown"]

_sinks: list[Callable[[str, int, int], None]] = []


def report(stage: str, done: int, total: int) -> None:
    """`done` of `total` steps or bytes of a stage (total 0: unknown). Cheap when nobody looks."""
    for sink in _sinks:
        sink(stage, done, total)


@contextlib.contextmanager
def shown(enabled: bool = True) -> Iterator[None]:
    """Shows a bar a stage on stderr while the block runs, if stderr is a terminal."""
    if not (enabled and sys.stderr.isatty()):
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    tasks: dict[str, TaskID] = {}
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )

    def sink(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total or None)
        bars.update(tasks[stage], completed=done, total=total or None)

    with bars:
        _sinks.append(sink)
        try:
            yield
        finally:
            _sinks.remove(sink)
