"""Memory of a training step: what is planned, and what is computed again to need less."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dlk.nn.builder import GraphBuilder
    from dlk.nn.module import Module

_ATTEMPTS = 5
_UNLIMITED = 1 << 62


@dataclass(frozen=True)
class StepMemory:
    """Bytes of device memory that a training step is planned with.

    Attributes:
        arena_bytes: activations, gradients and temporaries, packed by lifetime.
        least_bytes: what is alive at one moment at most; no packing needs less.
        weight_bytes: parameters, statistics, the optimizer's state, and constants.
        batch_bytes: inputs and outputs of the run.
    """

    arena_bytes: int
    least_bytes: int
    weight_bytes: int
    batch_bytes: int

    @property
    def peak_bytes(self) -> int:
        """All of it: what `torch.cuda.max_memory_allocated` counts of a step."""
        return self.arena_bytes + self.weight_bytes + self.batch_bytes


def planned_memory(model: Any, shapes: Mapping[str, Sequence[int]]) -> StepMemory:
    """The memory of a step's model for inputs of these shapes."""
    feeds, sizes = {}, {}
    for info in model.inputs:
        if info.name in shapes:
            feeds[info.name] = np.zeros(tuple(shapes[info.name]), info.dtype)
            for dim, size in zip(info.shape, shapes[info.name], strict=True):
                if isinstance(dim, str):
                    sizes[dim] = size
    for info in model.inputs:
        if info.name not in feeds:
            shape = [d if isinstance(d, int) else sizes[d or ""] for d in info.shape]
            feeds[info.name] = np.zeros(shape, info.dtype)
    plan = model.plan(feeds)
    outputs = sum(4 * int(np.prod(s, dtype=np.int64)) for s in plan.output_shapes.values())
    return StepMemory(
        plan.arena_bytes,
        plan.peak_live_bytes,
        plan.weight_bytes,
        sum(f.nbytes for f in feeds.values()) + outputs,
    )


class Recompute:
    """What the backward pass of a `TrainStep` computes again, as its options say."""

    def __init__(
        self,
        module: Module,
        wanted: str | Sequence[str] | None,
        budget: int | None,
        sizes: Mapping[str, int] | None,
    ) -> None:
        self._sizes, self._budget = dict(sizes or {}), budget
        if budget is not None and wanted is not None:
            raise ValueError("recompute= and memory_budget= exclude each other")
        if budget is not None and budget < 1:
            raise ValueError("memory_budget is a number of bytes, at least 1")
        if isinstance(wanted, str) and wanted != "auto":
            raise ValueError(f'recompute is "auto" or the paths of parts, not {wanted!r}')
        self._automatic = wanted == "auto"
        self._parts: set[int] = set()
        self._saved_bytes = 0
        self._estimate: int | None = None
        """Bytes of activations that the segments are chosen for; 0: the fewest; None: keep all."""
        if self._automatic:
            self._estimate = 0
        elif wanted is not None:
            known = dict(module.named_modules())
            for path in wanted:
                if path not in known:
                    raise ValueError(f"recompute: the network has no part {path!r}")
                self._parts.add(id(known[path]))

    def parts(self) -> set[int]:
        """Ids of the modules that are segments."""
        return self._parts

    def apply(self, builder: GraphBuilder, first_backward: int) -> None:
        """Changes a graph whose backward nodes begin at `first_backward`."""
        segments = builder.segments
        if self._estimate is not None:
            segments, self._saved_bytes, _ = builder.graph.plan_recompute(
                first_backward, self._estimate, self._sizes
            )
        if segments:
            builder.graph.recompute(first_backward, segments)

    def choose(self, make: Callable[[], Any]) -> Any:
        """The model that fits the budget with the least work."""
        if self._budget is None:
            return make()
        self._estimate = _UNLIMITED
        model = make()
        arena, estimate, attempts = self._planned(model), float(self._saved_bytes), 0
        while arena > self._budget and self._estimate:
            # What is not activations (gradients, workspaces) stays as it is.
            estimate -= 1.1 * (arena - self._budget)
            attempts += 1
            self._estimate = 0 if attempts == _ATTEMPTS else max(int(estimate), 0)
            del model  # two would need twice the memory
            model = make()
            arena = self._planned(model)
        if arena <= self._budget:
            return model
        raise MemoryError(
            f"a step takes at least {arena} bytes of activations and temporaries; memory_budget is "
            f"{self._budget}: use smaller batches with accumulate="
        )

    def _planned(self, model: Any) -> int:
        shapes = {}
        for info in model.inputs:
            unknown = [d for d in info.shape if not isinstance(d, int) and d not in self._sizes]
            if unknown:
                raise ValueError(
                    f"memory_budget needs the size of {unknown[0]!r}: sizes={{{unknown[0]!r}: ...}}"
                )
            shapes[info.name] = [d if isinstance(d, int) else self._sizes[d] for d in info.shape]
        return planned_memory(model, shapes).arena_bytes
