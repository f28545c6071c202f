"""Where the time of a run goes, operation by operation."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dlk import _core
from dlk._atomic import write_text

if TYPE_CHECKING:
    from dlk.roofline import Peaks

__all__ = ["Profile"]


class Profile:
    """Times of the commands of one run, measured on the device.

    Attributes:
        steps: ``(step, nanoseconds)`` in the order of the plan.
    """

    def __init__(self, steps: Sequence[tuple[_core.PlanStep, float]], device_id: str) -> None:
        self.steps = list(steps)
        self.device_id = device_id

    @property
    def total_ms(self) -> float:
        """The sum over all commands, in milliseconds (commands may overlap)."""
        return sum(ns for _, ns in self.steps) / 1e6

    def by_op(self) -> dict[str, float]:
        """Milliseconds of each kind of operation, the longest first."""
        times: dict[str, float] = {}
        for step, ns in self.steps:
            times[step.op] = times.get(step.op, 0.0) + ns / 1e6
        return dict(sorted(times.items(), key=lambda item: -item[1]))

    def roofline(self, most: Peaks | None = None) -> list[dict[str, Any]]:
        """Each operation with its rates and its fraction of what the device does at most.

        Args:
            most: the device's peaks; None: they are measured, or taken from the cache folder.

        Returns:
            Rows of `dlk.roofline.rows`, in the order of the plan.
        """
        from dlk import roofline

        return roofline.rows(self.steps, most or roofline.peaks(self.device_id))

    def table(self, limit: int = 30, most: Peaks | None = None) -> str:
        """The longest commands as text: time, share, GFLOP/s, operation, kernel; with `most` also
        the percentage of the roofline that the operation reaches."""
        total = max(self.total_ms, 1e-9)
        reached = [""] * len(self.steps)
        if most is not None:
            from dlk.roofline import groups

            reached = [
                f" {100 * row['fraction']:6.1f}"
                for group, row in zip(groups(self.steps), self.roofline(most), strict=True)
                for _ in group
            ]
        ordered = sorted(zip(self.steps, reached, strict=True), key=lambda item: -item[0][1])
        roof = f" {'% roof':>6}" if most is not None else ""
        lines = [f"{'us':>10} {'%':>5} {'GFLOP/s':>9}{roof}  {'op':<18} {'node':<32} kernel"]
        for (step, ns), part in ordered[:limit]:
            rate = f"{step.flops / ns:9.1f}" if ns > 0 and step.flops else " " * 9
            share = ns / 1e4 / total
            lines.append(
                f"{ns / 1e3:10.1f} {share:5.1f} {rate}{part}  {step.op:<18} {step.node:<32} "
                f"{step.kernel}"
            )
        if len(ordered) > limit:
            lines.append(f"... and {len(ordered) - limit} more")
        lines.append(f"{total:.3f} ms in {len(self.steps)} commands on {self.device_id}")
        return "\n".join(lines)

    def chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Writes a trace that chrome://tracing and Perfetto open, commands one after another."""
        events, start = [], 0.0
        for step, ns in self.steps:
            events.append(
                {
                    "name": step.node or step.op,
                    "cat": step.op,
                    "ph": "X",
                    "ts": start / 1e3,
                    "dur": ns / 1e3,
                    "pid": 0,
                    "tid": 0,
                    "args": {
                        "kernel": step.kernel,
                        "groups": list(step.groups),
                        "flops": step.flops,
                        "bytes": step.bytes_read + step.bytes_written,
                    },
                }
            )
            start += ns
        names = {"name": "process_name", "ph": "M", "pid": 0, "args": {"name": self.device_id}}
        write_text(path, json.dumps({"traceEvents": [names, *events]}))

    def __repr__(self) -> str:
        return f"Profile({len(self.steps)} commands, {self.total_ms:.3f} ms, {self.device_id})"
