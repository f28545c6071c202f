"""What a parity case is, and how cases are registered.

A case is one operator with attributes, random inputs and an oracle. The oracle is NumPy in float64,
written independently of dlk (never dlk, torch or onnxruntime)::

    from ..case import Case, case, normal

    case(Case(
        op="Softmax", name="axis1",
        inputs=lambda rng: {"x": normal(rng, 3, 17, 5)},
        attributes={"axis": 1},
        oracle=lambda x: np.exp(x - x.max(1, keepdims=True)) / ...,
    ))

`inputs` returns the node's inputs in order; ``None`` leaves an optional input out. Floating inputs
are given as float64 or float32 and rounded to the tested dtype before the oracle sees them (as
float64); integer and bool inputs keep their dtype. Inputs named in `constants` become constants of
the graph (axes, shapes, weights), the others are inputs of the run.

Layouts
- ``contiguous``: as it is.
- ``strided``: the tensor is a slice (offset and gaps on every axis) of a larger one.
- ``channels_last``: a tensor of rank 3 to 5 arrives with its channel axis innermost.
Both views reach the operator without a copy. Only floating run inputs are laid out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LAYOUTS = ("contiguous", "strided", "channels_last")


@dataclass(frozen=True)
class Tolerance:
    """A bound on max|a-b| / max|b| over one output, and why it is what it is."""

    bound: float
    reason: str


DEFAULT_TOLERANCE: Mapping[str, Tolerance] = {
    "float64": Tolerance(1e-12, "a few thousand float64 operations"),
    "float32": Tolerance(
        5e-6, "fp32 arithmetic and library functions, sums of a few thousand terms"
    ),
    "float16": Tolerance(1.5e-3, "storage rounds to 2^-11; arithmetic is fp32"),
    "bfloat16": Tolerance(1.2e-2, "storage rounds to 2^-8; arithmetic is fp32"),
}


@dataclass(frozen=True)
class Case:
    op: str
    name: str
    inputs: Callable[[np.random.Generator], Mapping[str, Array | None]]
    oracle: Callable[..., Any]
    """Gets the inputs as positional arguments (None: left out); returns an array or a tuple."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    outputs: int = 1
    constants: Sequence[str] = ()
    dtypes: Sequence[str] = ("float32", "float16")
    """Of the floating inputs. Cases without floating inputs: give ("none",)."""
    layouts: Sequence[str] = ("contiguous",)
    """Others than contiguous run in float32 only."""
    tolerance: Mapping[str, Tolerance] = field(default_factory=dict)
    """Overrides of DEFAULT_TOLERANCE, each with its reason."""
    exact: bool = False
    """Results must be equal bit for bit (data movement, integers, comparisons)."""
    check_outputs: Sequence[int] | None = None
    """Which outputs to compare; default all."""
    slow: bool = False
    """Left out of `dlk parity --quick` and of sanitizer runs."""

    @property
    def id(self) -> str:
        return f"{self.op}.{self.name}"

    def tolerance_for(self, dtype: str) -> Tolerance:
        return self.tolerance.get(dtype) or DEFAULT_TOLERANCE.get(
            dtype, Tolerance(0.0, "integers are exact")
        )


CASES: dict[str, Case] = {}


def case(c: Case) -> Case:
    """Registers a case; its id must be new."""
    if c.id in CASES:
        raise ValueError(f"two parity cases are called {c.id}")
    for layout in c.layouts:
        if layout not in LAYOUTS:
            raise ValueError(f"{c.id}: unknown layout {layout!r}; one of {LAYOUTS}")
    CASES[c.id] = c
    return c


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Array:
    """Random normals, float64."""
    return rng.standard_normal(shape) * scale


def uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Array:
    return rng.uniform(low, high, shape)


def integers(
    rng: np.random.Generator, low: int, high: int, *shape: int, dtype: str = "int64"
) -> Array:
    """Random integers in [low, high)."""
    return rng.integers(low, high, shape).astype(dtype)


def ints(*values: int) -> Array:
    """A 1-D int64 tensor, as ONNX wants axes and shapes."""
    return np.array(values, dtype=np.int64)
