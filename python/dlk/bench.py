"""How fast a model is: the figures of ``dlk bench``."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from dlk import _core
from dlk.model import Model

__all__ = ["BenchResult", "measure", "percentile"]

QUEUED = 30
"""Runs that are queued for `pipelined_ms`."""


@dataclasses.dataclass(frozen=True)
class BenchResult:
    """Times in milliseconds a run.

    Attributes:
        median_ms: host memory in to host memory out, waited for.
        device_ms: one run with inputs and outputs in device memory, waited for; median.
        pipelined_ms: 30 such runs queued and one wait, per run; median.
        min_ms, p95_ms: of the times behind `median_ms`.
        runs: how many times were taken.
    """

    device: str
    dtype: str
    batch: int
    median_ms: float
    device_ms: float
    pipelined_ms: float
    min_ms: float
    p95_ms: float
    runs: int

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return dataclasses.asdict(self)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)  # ceiling
    return ordered[max(int(rank) - 1, 0)]


def measure(
    model: Model,
    inputs: Mapping[str, NDArray[Any]],
    *,
    batch: int = 1,
    runs: int | None = None,
    seconds: float = 3.0,
) -> BenchResult:
    """Times a model.

    Args:
        inputs: host arrays by input name.
        batch: what the result says about the inputs.
        runs: timed runs; None: as many as fit in `seconds`, at least 5 and at most 200.
    """
    session = model.handle.create_session()
    feeds = dict(inputs)
    for _ in range(2):  # compiles, packs weights, warms up
        session.run(feeds)
    host = _times(lambda: session.run(feeds), runs, seconds)
    device = model.device.handle
    resident = {name: _core.DeviceTensor.upload(device, array) for name, array in feeds.items()}
    session.run_async(resident).wait()

    def pipelined() -> None:
        last = None
        for _ in range(QUEUED):
            last = session.run_async(resident)
        if last is not None:
            last.wait()

    one = _times(lambda: session.run_async(resident).wait(), runs, seconds)
    queued = _times(pipelined, None if runs is None else max(runs // QUEUED, 1), seconds, least=2)
    return BenchResult(
        device=model.device.id,
        dtype=model.dtype,
        batch=batch,
        median_ms=statistics.median(host),
        device_ms=statistics.median(one),
        pipelined_ms=statistics.median(queued) / QUEUED,
        min_ms=min(host),
        p95_ms=percentile(host, 0.95),
        runs=len(host),
    )


def _times(
    action: Callable[[], Any], runs: int | None, seconds: float, least: int = 5
) -> list[float]:
    """Milliseconds of each call."""
    times: list[float] = []
    start = time.perf_counter()
    while True:
        before = time.perf_counter()
        action()
        after = time.perf_counter()
        times.append((after - before) * 1e3)
        if runs is not None:
            if len(times) >= runs:
                return times
        elif len(times) >= 200 or (len(times) >= least and after - start > seconds):
            return times
