"""How fast a model is: the figures of ``dlk bench``."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from dlk import _core
from dlk.model import Model

if TYPE_CHECKING:
    from dlk.train import TrainStep

__all__ = [
    "BenchResult",
    "TrainingResult",
    "in_turn",
    "measure",
    "measure_training",
    "percentile",
    "queued_runs",
    "queued_steps",
]

WARM_UP = 70
"""Runs before the first timed one, at most; fewer where they would take as long as those."""

AWAKE_SECONDS = 0.5
"""Resident runs before the first timed one: while its host copied, a GPU has lowered its clocks."""

QUEUED = 30
"""Runs that are queued for `pipelined_ms`."""

ROUNDS = 15
"""Calls of each function that `in_turn` times, at most."""


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


@dataclasses.dataclass(frozen=True)
class TrainingResult(BenchResult):
    """Times in milliseconds a training step: forward, backward, update.

    Attributes:
        median_ms, device_ms, pipelined_ms: of steps, with the batch where `BenchResult` has inputs.
        images_per_s: samples a second by `pipelined_ms`.
        arena_bytes: activations, gradients and temporaries.
        peak_bytes: those, the weights with the optimizer's state, and the batch.
    """

    images_per_s: float
    arena_bytes: int
    peak_bytes: int


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)  # ceiling
    return ordered[max(int(rank) - 1, 0)]


def in_turn(
    actions: Sequence[Callable[[], Any]], seconds: float = 6.0, rounds: int = ROUNDS
) -> list[float]:
    """Median milliseconds of each function, called in turn without a pause: A, B, A, B.

    A GPU that reaches its power limit lowers its clocks within a tenth of a second. Engines that
    are timed one after the other then meet different clocks; in turn they share them.

    Args:
        actions: each waits for what it starts. All are called twice before the first timed call.
        seconds: no further round starts after them, but for the second.
    """
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(2):
        for action in actions:
            action()
    start = time.perf_counter()
    while len(times[0]) < rounds:
        for action, taken in zip(actions, times, strict=True):
            before = time.perf_counter()
            action()
            taken.append((time.perf_counter() - before) * 1e3)
        if len(times[0]) >= 2 and time.perf_counter() - start > seconds:
            break
    return [statistics.median(taken) for taken in times]


def queued_runs(model: Model, inputs: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
    """A function for `in_turn`: `QUEUED` runs, inputs and outputs in device memory, and one wait.

    Args:
        inputs: host arrays by input name.
    """
    session = model.handle.create_session()
    device = model.device.handle
    resident = {name: _core.DeviceTensor.upload(device, array) for name, array in inputs.items()}
    run = _queue(session, resident)
    run()  # with the calls that warm up in `in_turn` as many as recordings change their form in
    _core.finish_background_compiles(device)
    return run


def _queue(session: Any, resident: Mapping[str, Any]) -> Callable[[], None]:
    def run() -> None:
        last = None
        for _ in range(QUEUED):
            last = session.run_async(resident)
        if last is not None:
            last.wait()

    return run


def queued_steps(step: TrainStep, arrays: Sequence[NDArray[Any]]) -> Callable[[], None]:
    """The same of a training step, on one batch in device memory."""
    from dlk.tensor import Tensor

    resident = [Tensor(array, step.device) for array in step.feeds(arrays).values()]

    def run() -> None:
        for _ in range(QUEUED):
            step(*resident)
        step.wait()

    return run


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
    session.run(feeds)  # compiles and packs weights
    _core.finish_background_compiles(model.device.handle)
    start = time.perf_counter()
    for run in range(WARM_UP):  # what recordings do when run often
        session.run(feeds)
        if run > 0 and time.perf_counter() - start > seconds:
            break
    host = _times(lambda: session.run(feeds), runs, seconds)
    device = model.device.handle
    resident = {name: _core.DeviceTensor.upload(device, array) for name, array in feeds.items()}
    start = time.perf_counter()
    session.run_async(resident).wait()
    while runs is None and time.perf_counter() - start < min(AWAKE_SECONDS, seconds):
        session.run_async(resident).wait()
    pipelined = _queue(session, resident)
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


def measure_training(
    step: TrainStep,
    arrays: Sequence[NDArray[Any]],
    *,
    runs: int | None = None,
    seconds: float = 3.0,
) -> TrainingResult:
    """Times a training step on one batch, which it learns meanwhile.

    Args:
        arrays: the batch, as `step` takes it.
        runs: timed runs; None: as many as fit in `seconds`, at least 5 and at most 200.
    """
    from dlk.tensor import Tensor

    def one(batch: Sequence[Any]) -> None:
        step(*batch)
        step.wait()

    memory = step.memory(*arrays)
    resident = [Tensor(array, step.device) for array in step.feeds(arrays).values()]
    one(arrays)
    _core.finish_background_compiles(step.device.handle)
    for _ in range(2):
        one(arrays)
        one(resident)
    host = _times(lambda: one(arrays), runs, seconds)
    device = _times(lambda: one(resident), runs, seconds)
    pipelined = queued_steps(step, arrays)
    queued = _times(pipelined, None if runs is None else max(runs // QUEUED, 1), seconds, least=2)
    each = statistics.median(queued) / QUEUED
    return TrainingResult(
        device=step.device.id,
        dtype=step.dtype,
        batch=len(arrays[0]),
        median_ms=statistics.median(host),
        device_ms=statistics.median(device),
        pipelined_ms=each,
        min_ms=min(host),
        p95_ms=percentile(host, 0.95),
        images_per_s=len(arrays[0]) / each * 1e3,
        arena_bytes=memory.arena_bytes,
        peak_bytes=memory.peak_bytes,
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
