"""Gradients of parity cases: the engine's against finite differences of the float64 oracle.

For a case with inputs x and results y, a random cotangent c makes the scalar L = sum(c * y). The
engine gives dL/dx for every floating input; central differences of the oracle give some elements of
it and its product with a few random directions.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .case import Array, Case, Tolerance
from .harness import Variant, load_cases, make_inputs
from .passport import entry

ELEMENTS, DIRECTIONS = 12, 2
MOST_CASES = 6
"""Cases of an operator that are differentiated: those with different attributes first."""

MORE_CASES = {
    "Attention": 20,
    "ConvTranspose": 12,
    "Col2Im": 8,
    "GatherND": 12,
    "Pad": 16,
    "RNN": 20,
    "GRU": 12,
    "LSTM": 14,
}
"""The same of operators whose attributes lead to several gradients."""

TOLERANCE = Tolerance(
    2e-4, "fp32 against differences of float64; sums of a few thousand products, then cancellation"
)

STAYS_CONSTANT = {"roi", "scales", "sizes", "ratio"}
"""Floating inputs that must be known before the run."""

REFUSED: dict[str, str] = {
    "LpPool": "AveragePool of powers has a gradient",
    "GlobalLpPool": "AveragePool of powers has a gradient",
    "ScatterElements.mul": "of the reductions, none and add have one",
    "ScatterElements.max": "of the reductions, none and add have one",
    "ScatterElements.min": "of the reductions, none and add have one",
    "ScatterND.mul": "of the reductions, none and add have one",
    "ScatterND.max": "of the reductions, none and add have one",
    "ScatterND.min": "of the reductions, none and add have one",
    "Einsum.trace": "a label that one operand repeats",
    "Einsum.diagonal": "a label that one operand repeats",
}
"""Cases (by the beginning of their id) whose gradient is refused, and why."""

KINKED: dict[str, str] = {
    "MaxPool.dlkit_pool1": "pixels that tie for the maximum",
    "TopK.axis": "whole numbers that tie",
    "TopK.many_of": "whole numbers that tie",
    "Dropout.training": "the oracle knows only what its numbers add up to",
}
"""Cases (by the beginning of their id) with inputs at which the operator has no derivative."""


def refusal(c: Case) -> str:
    """Why a case's gradient is refused; empty where it is not."""
    return next((why for key, why in REFUSED.items() if c.id.startswith(key)), "")


@dataclass(frozen=True)
class Difference:
    """One comparison: what the engine said and what the oracle's differences say."""

    got: float
    want: float
    scale: float


def differentiable_ops() -> set[tuple[str, str]]:
    """(domain, name) of every operator that states a gradient."""
    from dlk import _core

    return {(op["domain"], op["name"]) for op in _core.operators() if op["gradient"]}


def _is_smooth(c: Case) -> bool:
    """The oracle takes and gives finite floats only, and there is something to differentiate."""
    variant = Variant(c, "float32", "contiguous")
    inputs = make_inputs(variant)
    floats = [a for a in inputs.values() if a is not None and a.dtype.kind == "f"]
    if not floats or any(a.size == 0 or not np.isfinite(a).all() for a in floats):
        return False
    outputs = _outputs(c, _wide(inputs))
    return any(o.dtype.kind == "f" and o.size for o in outputs) and all(
        np.isfinite(o).all() for o in outputs if o.dtype.kind == "f"
    )


def gradient_cases() -> list[Case]:
    """The cases that are differentiated, in the order of the registry."""
    ops = differentiable_ops()
    chosen: dict[tuple[str, str], list[Case]] = {}
    for c in load_cases().values():
        if (c.domain, c.op) in ops and not c.slow and "float32" in c.dtypes:
            chosen.setdefault((c.domain, c.op), []).append(c)
    result = []
    for cases in chosen.values():
        smooth = [c for c in cases if not c.id.startswith(tuple(KINKED)) and _is_smooth(c)]
        seen: set[str] = set()
        fresh, rest = [], []
        for c in smooth:
            key = repr(sorted(c.attributes.items(), key=lambda item: item[0]))
            (rest if key in seen else fresh).append(c)
            seen.add(key)
        result += (fresh + rest)[: MORE_CASES.get(cases[0].op, MOST_CASES)]
    return result


def _wide(inputs: dict[str, Array | None]) -> list[Array | None]:
    return [
        None if a is None else (a if a.dtype.kind in "iub" else a.astype(np.float64))
        for a in inputs.values()
    ]


def _outputs(c: Case, inputs: list[Array | None]) -> list[Array]:
    with np.errstate(all="ignore"):
        result = c.oracle(*inputs)
    several = isinstance(result, (tuple, list))
    outputs = list(result) if several else [result]
    return [np.asarray(o) for o in outputs if o is not None]


def differentiated_outputs(c: Case, outputs: list[Array]) -> list[int]:
    """Which outputs get a cotangent: all floating ones, but only y of a BatchNormalization (the
    running statistics carry no gradient) and of a layer normalization."""
    first_only = c.op in {"BatchNormalization", "LayerNormalization", "Dropout"}
    indices = range(1 if first_only else len(outputs))
    checked = c.check_outputs
    return [
        i for i in indices if outputs[i].dtype.kind == "f" and (checked is None or i in checked)
    ]


def engine_gradients(
    c: Case,
    device: Any,
    inputs: dict[str, Array | None],
    cotangents: dict[int, Array],
    **options: Any,
) -> dict[str, Array]:
    """dL/dx by input name, from a graph with one operator. AssertionError where a second run gives
    other bits."""
    from dlk import _core

    graph, feeds, ids = _core.Graph(), {}, []
    wanted: dict[str, int] = {}
    for name, array in inputs.items():
        if array is None:
            ids.append(None)
        elif array.dtype.kind == "f" and name not in STAYS_CONSTANT:
            ids.append(graph.add_input(name, "float32", list(array.shape)))
            feeds[name], wanted[name] = array, ids[-1]
        elif name in c.constants or array.dtype.kind == "f":
            ids.append(graph.add_constant(name, np.ascontiguousarray(array)))
        else:
            ids.append(graph.add_input(name, str(array.dtype), list(array.shape)))
            feeds[name] = array
    outputs = graph.add_node(c.op, ids, dict(c.attributes), c.outputs, domain=c.domain)
    weights = []
    for i, cotangent in cotangents.items():
        weights.append(graph.add_input(f"cotangent{i}", "float32", list(cotangent.shape)))
        feeds[f"cotangent{i}"] = cotangent.astype(np.float32)
    found = graph.gradients([outputs[i] for i in cotangents], list(wanted.values()), weights)
    for name, gradient in zip(wanted, found, strict=True):
        if gradient is not None:
            graph.add_output(gradient, f"d {name}")
    if not any(g is not None for g in found):
        return {name: np.zeros(inputs[name].shape, np.float32) for name in wanted}  # type: ignore[union-attr]
    model = _core.Model(graph, device, **{"guards": True, **options})
    session = model.create_session()
    got, again = session.run(feeds), session.run(feeds)
    for name, value in got.items():
        if value.tobytes() != again[name].tobytes():
            raise AssertionError(f"{name}: a second run gave other bits")
    return {
        name: got.get(f"d {name}", np.zeros(np.shape(inputs[name]), np.float32)) for name in wanted
    }


def _objective(c: Case, names: list[str], cotangents: dict[int, Array]) -> Callable[..., float]:
    def value(inputs: dict[str, Array | None]) -> float:
        outputs = _outputs(c, [inputs[n] for n in names])
        return float(sum((outputs[i] * w).sum() for i, w in cotangents.items()))

    return value


def differences(c: Case, device: Any, **options: Any) -> list[Difference]:
    """Engine and oracle side by side; kinks (where one-sided differences disagree) are left out."""
    variant = Variant(c, "float32", "contiguous")
    inputs = make_inputs(variant)
    rng = np.random.default_rng(zlib.crc32(f"gradient {c.id}".encode()))
    wide = dict(zip(inputs, _wide(inputs), strict=True))
    outputs = _outputs(c, list(wide.values()))
    cotangents = {
        i: rng.standard_normal(outputs[i].shape).astype(np.float32).astype(np.float64)
        for i in differentiated_outputs(c, outputs)
    }
    got = engine_gradients(c, device, inputs, cotangents, **options)
    objective = _objective(c, list(inputs), cotangents)
    base = objective(wide)
    found = []
    for name, gradient in got.items():
        x = wide[name]
        assert x is not None
        if gradient.shape != x.shape:
            raise AssertionError(f"the gradient of {name} is {gradient.shape}, not {x.shape}")
        for direction in _directions(x, rng):
            step = 1e-6 * max(1.0, float(np.abs(x).max()))
            up = objective({**wide, name: x + step * direction})
            down = objective({**wide, name: x - step * direction})
            right, left = (up - base) / step, (base - down) / step
            norm = float(np.sqrt((direction**2).sum()))
            largest = float(np.abs(gradient).max())
            scale = max(largest * norm, 1e-6)
            if abs(right - left) > 1e-3 * scale:
                continue  # a kink: not differentiable there
            product = float((gradient.astype(np.float64) * direction).sum())
            found.append(Difference(product, (up - down) / (2 * step), scale))
    return found


def measure_gradient(c: Case, device: Any) -> dict[str, Any]:
    """The passport's entry for the gradient of a case; whatever goes wrong is part of it."""
    worst, status, reason = 0.0, "failed", ""
    try:
        worst = max((abs(d.got - d.want) / d.scale for d in differences(c, device)), default=0.0)
        if worst > TOLERANCE.bound:
            reason = f"error {worst:.2g}, allowed are {TOLERANCE.bound:.2g}"
        else:
            status = "passed"
    except NotImplementedError as error:
        status, reason = "unsupported", str(error)
    except (RuntimeError, ValueError, MemoryError, AssertionError) as error:
        reason = f"{type(error).__name__}: {error}"
    return entry(device.id, c.op, "gradient", c.id, worst, 0.0, status, reason)


def _directions(x: Array, rng: np.random.Generator) -> list[Array]:
    directions = [rng.standard_normal(x.shape) for _ in range(DIRECTIONS)]
    for index in rng.choice(x.size, min(ELEMENTS, x.size), replace=False):
        one = np.zeros(x.size)
        one[index] = 1.0
        directions.append(one.reshape(x.shape))
    return directions
