"""Where the time of a run goes, operation by operation."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from dlk import _core
from dlk._atomic import write_text

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

    def table(self, limit: int = 30) -> str:
        """The longest commands as text: time, share, GFLOP/s, operation, kernel."""
        total = max(self.total_ms, 1e-9)
        ordered = sorted(self.steps, key=lambda item: -item[1])
        lines = [f"{'us':>10} {'%':>5} {'GFLOP/s':>9}  {'op':<18} {'node':<32} kernel"]
        for step, ns in ordered[:limit]:
            rate = f"{step.flops / ns:9.1f}" if ns > 0 and step.flops else " " * 9
            share = ns / 1e4 / total
            lines.append(
                f"{ns / 1e3:10.1f} {share:5.1f} {rate}  {step.op:<18} {step.node:<32} {step.kernel}"
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
