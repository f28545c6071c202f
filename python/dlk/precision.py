"""The guard of float16: would a network's numbers fit?

    >>> report = dlk.precision.check_float16(model.graph, {"image": x})
    >>> print(report)
    largest 31.2 (of 65504) in 'logits'; everything fits float16

`Model(..., dtype="float16")` stores tensors as float16 and computes in float32, so that a number
beyond 65504 becomes infinite where it is stored. The guard runs the graph once in float32, looks at
every result that float16 would store, and names those that do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlk import _core

__all__ = ["Float16Report", "Suspect", "check_float16"]

LARGEST = 65504.0
SMALLEST = 2.0**-24  # the smallest number above 0; what is smaller is stored as 0


@dataclass(frozen=True)
class Suspect:
    """A result with numbers that float16 cannot hold: `overflows` elements beyond 65504, or all of
    its elements too small (`vanishes`)."""

    value: str
    op: str
    largest: float
    overflows: int
    vanishes: bool


@dataclass(frozen=True)
class Float16Report:
    """`suspects` in the order of the graph; `largest` of all finite numbers, and where it is."""

    suspects: tuple[Suspect, ...]
    largest: float
    at: str
    values: int

    @property
    def fits(self) -> bool:
        """Nothing overflows."""
        return not any(s.overflows for s in self.suspects)

    def __str__(self) -> str:
        lines = [f"largest {self.largest:.4g} (of {LARGEST:.0f}) in {self.at!r}"]
        if not self.suspects:
            return lines[0] + "; everything fits float16"
        for s in self.suspects:
            what = f"{s.overflows} elements overflow" if s.overflows else "all elements vanish"
            lines.append(f"{s.value!r} ({s.op}): {what}, largest {s.largest:.4g}")
        return "\n".join(lines)


def _results(graph: _core.Graph) -> dict[str, str]:
    """Tensors that nodes make, by name, with their operators."""
    return {
        graph.value(index).name: node.op
        for node in graph.nodes
        for index in node.outputs
        if index is not None and graph.value(index).type == "tensor"
    }


def check_float16(
    graph: _core.Graph, inputs: Mapping[str, Any], device: _core.Device | None = None
) -> Float16Report:
    """Runs `graph` in float32 on `inputs` (by name) and looks at each of its results.

    Results inside of subgraphs, and those that only the run makes known, are not seen. Raises what
    `Model` raises.
    """
    watched = graph.copy()
    operators = _results(watched)
    named = {v.name: v.id for v in watched.values}
    outputs = set(watched.output_names)
    for name in operators:
        if name not in outputs:
            watched.add_output(named[name], name)
    session = _core.Model(watched, device or _core.open_device()).create_session()
    results = session.run(dict(inputs))
    suspects, largest, at, seen = [], 0.0, "", 0
    for name, op in operators.items():
        value = results[name]
        if not isinstance(value, np.ndarray) or value.dtype != np.float32:
            continue
        seen += 1
        array = np.abs(value)
        finite = array[np.isfinite(array)]
        top = float(finite.max()) if finite.size else 0.0
        if top > largest or not at:
            largest, at = top, name
        overflows = int((finite > LARGEST).sum())
        vanishes = 0 < top < SMALLEST
        if overflows or vanishes:
            suspects.append(Suspect(name, op, top, overflows, vanishes))
    return Float16Report(tuple(suspects), largest, at, seen)
