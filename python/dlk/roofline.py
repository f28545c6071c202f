"""How near operations come to what a device does at most: ``dlk bench --roofline``.

An operation takes at least the time in which its bytes can be moved or its arithmetic done,
whichever is longer; the fraction is that time over the measured one. Small tensors that stay in a
cache can come out above 1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dlk import _core
from dlk._atomic import write_text
from dlk.device import Device, as_device

__all__ = ["Peaks", "by_op", "groups", "peaks", "rows"]

MATRIX_KERNELS = ("conv_mma", "conv_weight_tile")
"""Kernels whose arithmetic is done by matrix units, where there are any."""

_MATRIX_FLAGS = ("cooperative_matrix", "inline_ptx", "binary_import", "simdgroup_matrix")


@dataclasses.dataclass(frozen=True)
class Peaks:
    """What a device does at most, a second; 0: it cannot, or nothing was measured.

    Attributes:
        copy_bytes: bytes read and written by a copy of buffers far larger than caches.
        fp32_flops, fp16_flops: multiply-adds in registers, each counted as two.
        matrix_flops: the best float16 product of 4096 x 4096 by dlk's own kernels on matrix units.
    """

    copy_bytes: float
    fp32_flops: float
    fp16_flops: float
    matrix_flops: float

    def seconds(self, moved: float, flops: float, kernels: Iterable[str] = ()) -> float:
        """The least time for `moved` bytes and `flops` operations by kernels of these names."""
        rate = self.fp32_flops
        if self.matrix_flops and any(kernel.startswith(MATRIX_KERNELS) for kernel in kernels):
            rate = self.matrix_flops
        return max(moved / self.copy_bytes, flops / rate)

    def to_dict(self) -> dict[str, float]:
        """The fields by name."""
        return dataclasses.asdict(self)


def peaks(device: Device | str | None = None, *, fresh: bool = False) -> Peaks:
    """A device's peaks: measured once, in about a second, and kept in the cache folder.

    Args:
        fresh: measure again.

    Raises:
        NotImplementedError: the device executes no kernels.
    """
    where = as_device(device)
    facts = f"{where.name}|{where.caps['backend']}|{where.caps['driver']}|{_core.__version__}"
    path = (
        Path(_core.cache_directory()) / f"peaks-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
    )
    names = {field.name for field in dataclasses.fields(Peaks)}
    if not fresh:
        try:
            kept = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            kept = None
        if isinstance(kept, dict) and set(kept) == names:
            return Peaks(**kept)
    result = Peaks(**_core.measure_peaks(where.handle), matrix_flops=_matrix_flops(where))
    with contextlib.suppress(OSError):  # a cache that cannot be written costs a second next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(result.to_dict()) + "\n")
    return result


def _matrix_flops(device: Device, size: int = 4096) -> float:
    if not any(device.caps[flag] for flag in _MATRIX_FLAGS):
        return 0.0
    from dlk.opcases import op_case

    case = op_case(f"gemm:{size}", "float16")
    session = _core.Model(case.graph, device.handle, dtype="float16").create_session()
    session.run(case.feeds)
    best = 0.0
    for _ in range(4):
        for step, ns in session.profile(case.feeds):
            if step.kernel.startswith(MATRIX_KERNELS) and ns > 0:
                best = max(best, step.flops / ns * 1e9)
    return best


def groups(
    steps: Iterable[tuple[_core.PlanStep, float]],
) -> list[list[tuple[_core.PlanStep, float]]]:
    """The commands of a profile, those of one operation together."""
    result: list[list[tuple[_core.PlanStep, float]]] = []
    for step, ns in steps:
        last = result[-1][-1][0] if result else None
        if last is not None and step.node and (last.node, last.op) == (step.node, step.op):
            result[-1].append((step, ns))
        else:
            result.append([(step, ns)])
    return result


def rows(steps: Iterable[tuple[_core.PlanStep, float]], most: Peaks) -> list[dict[str, Any]]:
    """Each operation of a profile with its rates and its fraction of the roof.

    Returns:
        Dicts of node, op, kernels, ms, flops, bytes (of all its commands), gflops and gbytes (a
        second), `bound` ("memory" or "arithmetic": which takes longer at the peaks), `fraction`.
    """
    result = []
    for group in groups(steps):
        kernels = [step.kernel for step, _ in group]
        moved = sum(step.bytes_read + step.bytes_written for step, _ in group)
        flops = sum(step.flops for step, _ in group)
        seconds = max(sum(ns for _, ns in group), 1.0) / 1e9
        least = most.seconds(moved, flops, kernels)
        result.append(
            {
                "node": group[0][0].node, "op": group[0][0].op, "kernels": kernels,
                "ms": seconds * 1e3, "flops": flops, "bytes": moved,
                "gflops": flops / seconds / 1e9, "gbytes": moved / seconds / 1e9,
                "bound": "memory" if moved / most.copy_bytes >= least else "arithmetic",
                "fraction": least / seconds,
            }
        )  # fmt: skip
    return result


def by_op(steps: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `rows` gives, summed over kinds of operation, the longest first."""
    sums: dict[str, dict[str, Any]] = {}
    for row in steps:
        entry = sums.setdefault(
            row["op"],
            {"op": row["op"], "count": 0, "ms": 0.0, "flops": 0.0, "bytes": 0, "fraction": 0.0},
        )
        entry["count"] += 1
        for key in ("ms", "flops", "bytes"):
            entry[key] += row[key]
        entry["fraction"] += row["fraction"] * row["ms"]
    for entry in sums.values():
        entry["gflops"] = entry["flops"] / entry["ms"] / 1e6
        entry["gbytes"] = entry["bytes"] / entry["ms"] / 1e6
        entry["fraction"] /= entry["ms"]
    return sorted(sums.values(), key=lambda entry: -float(entry["ms"]))
