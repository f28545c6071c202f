"""Runs parity cases on a device and judges the results.

Used by ``test_parity.py`` (pytest) and by ``dlk parity`` (the passport).
"""

from __future__ import annotations

import importlib
import pkgutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import cases as _cases
from .case import CASES, LAYOUTS, Array, Case


@dataclass(frozen=True)
class Variant:
    """One run of a case: a dtype and a layout."""

    case: Case
    dtype: str
    layout: str

    @property
    def id(self) -> str:
        return f"{self.case.id}-{self.dtype}-{self.layout}"


@dataclass(frozen=True)
class Outcome:
    """How far a device's result was from the oracle's."""

    relative: float
    """max|a-b| / max|b| over the worst output; 0 where both are equal."""
    ulp: float
    """Largest distance in units in the last place of the output dtype at each element."""
    problem: str = ""
    """Why the result is wrong whatever the tolerance (shape, dtype, NaN); empty if right."""


def load_cases() -> dict[str, Case]:
    """Imports every module of ``cases`` once and returns the registry."""
    for module in pkgutil.iter_modules(_cases.__path__):
        importlib.import_module(f"{_cases.__name__}.{module.name}")
    return CASES


def variants(selected: Iterator[Case] | None = None) -> list[Variant]:
    """Every dtype in the contiguous layout, and float32 in the others."""
    result = []
    for c in selected if selected is not None else load_cases().values():
        for dtype in c.dtypes:
            for layout in LAYOUTS:
                if layout in c.layouts and (layout == "contiguous" or dtype in ("float32", "none")):
                    result.append(Variant(c, dtype, layout))
    return result


def _round(array: Array, dtype: str) -> Array:
    """The input as the device gets it."""
    if array.dtype.kind != "f" or array.dtype.itemsize < 2 or dtype == "none":
        return array
    with np.errstate(over="ignore"):
        if dtype == "bfloat16":
            import ml_dtypes

            return array.astype(ml_dtypes.bfloat16)
        return array.astype(dtype)


def make_inputs(variant: Variant) -> dict[str, Array | None]:
    """The case's inputs in the variant's dtype; the same for every device and every run."""
    rng = np.random.default_rng(zlib.crc32(variant.case.id.encode()))
    return {
        name: None if array is None else _round(np.asarray(array), variant.dtype)
        for name, array in variant.case.inputs(rng).items()
    }


def oracle_outputs(variant: Variant, inputs: dict[str, Array | None]) -> list[Array | None]:
    """What float64 NumPy says."""
    arguments = [
        None if a is None else (a if a.dtype.kind in "iub" else a.astype(np.float64))
        for a in inputs.values()
    ]
    with np.errstate(all="ignore"):
        result = variant.case.oracle(*arguments)
    return list(result) if isinstance(result, (tuple, list)) else [np.asarray(result)]


def _lay_out(graph: Any, name: str, array: Array, layout: str) -> tuple[int, Array]:
    """Adds a graph input that reaches the operator as a view; returns what to feed."""
    dtype = str(array.dtype)
    if layout == "strided" and array.ndim > 0 and array.dtype.kind not in "iub":
        big = np.full([2 * n + 3 for n in array.shape], 97, dtype=array.dtype)
        window = tuple(slice(1, 1 + 2 * n, 2) for n in array.shape)
        big[window] = array
        value = graph.add_input(name, dtype, list(big.shape))
        axes = range(array.ndim)
        parts = [
            np.array([1 for _ in axes], np.int64),
            np.array([1 + 2 * n for n in array.shape], np.int64),
            np.array(list(axes), np.int64),
            np.array([2 for _ in axes], np.int64),
        ]
        constants = [
            graph.add_constant(f"{name}/{part}", data)
            for part, data in zip(("starts", "ends", "axes", "steps"), parts, strict=True)
        ]
        return graph.add_node("Slice", [value, *constants])[0], big
    if layout == "channels_last" and array.ndim in (3, 4, 5):
        to_last = [0, *range(2, array.ndim), 1]
        to_first = [0, array.ndim - 1, *range(1, array.ndim - 1)]
        data = np.ascontiguousarray(array.transpose(to_last))
        value = graph.add_input(name, dtype, list(data.shape))
        return graph.add_node("Transpose", [value], {"perm": to_first})[0], data
    return graph.add_input(name, dtype, list(array.shape)), array


def build_graph(variant: Variant, inputs: dict[str, Array | None]) -> tuple[Any, dict[str, Array]]:
    """The one-operator graph and its feeds."""
    from dlk import _core

    graph, feeds, node_inputs = _core.Graph(), {}, []
    for name, array in inputs.items():
        if array is None:
            node_inputs.append(None)
        elif name in variant.case.constants:
            node_inputs.append(graph.add_constant(name, np.ascontiguousarray(array)))
        else:
            value, feeds[name] = _lay_out(graph, name, array, variant.layout)
            node_inputs.append(value)
    c = variant.case
    outputs = graph.add_node(c.op, node_inputs, dict(c.attributes), c.outputs, domain=c.domain)
    for i, value in enumerate(outputs):
        if c.check_outputs is None or i in c.check_outputs:
            graph.add_output(value, f"y{i}")
    return graph, feeds


def run_variant(variant: Variant, device: Any, **options: Any) -> Outcome:
    """Runs the variant on an open device and compares with the oracle.

    `options` go to the model; guard words are on. Errors of the device are raised as they are.
    """
    from dlk import _core

    inputs = make_inputs(variant)
    graph, feeds = build_graph(variant, inputs)
    model = _core.Model(graph, device, **{"guards": True, **options})
    got = model.create_session().run(feeds)
    worst = Outcome(0.0, 0.0)
    for i, want in enumerate(oracle_outputs(variant, inputs)):
        if variant.case.check_outputs is not None and i not in variant.case.check_outputs:
            continue
        outcome = compare(got[f"y{i}"], want, variant)
        if outcome.problem:
            return outcome
        worst = Outcome(max(worst.relative, outcome.relative), max(worst.ulp, outcome.ulp))
    return worst


def compare(got: Array, want: Array | None, variant: Variant) -> Outcome:
    """Judges one output: shape, NaN and infinity patterns, then the distance."""
    if want is None:
        return Outcome(0.0, 0.0, "the oracle gives no such output")
    want = np.asarray(want)
    if got.shape != want.shape:
        return Outcome(np.inf, np.inf, f"shape {got.shape}, expected {want.shape}")
    whole = got.dtype.kind in "iub", want.dtype.kind in "iub"
    if any(whole) and got.dtype != want.dtype:
        return Outcome(np.inf, np.inf, f"dtype {got.dtype}, expected {want.dtype}")
    if got.size == 0:
        return Outcome(0.0, 0.0)
    if variant.case.exact or got.dtype.kind in "iub":
        with np.errstate(over="ignore"):  # beyond the dtype is infinity
            expected = want.astype(got.dtype)
        equal = (got == expected) | (_is_nan(got) & _is_nan(expected))
        wrong = int((~equal).sum())
        return Outcome(0.0, 0.0, f"{wrong} of {got.size} elements differ" if wrong else "")
    with np.errstate(invalid="ignore"):  # a signalling NaN
        value = got.astype(np.float64)
    limit = _largest(got.dtype)
    want = np.where(np.abs(want) > limit, np.copysign(np.inf, want), want)
    for what, test in (("NaN", np.isnan), ("infinity", np.isinf)):
        if not np.array_equal(test(value), test(want)):
            return Outcome(np.inf, np.inf, f"{what} in other places than expected")
    finite = np.isfinite(want)
    if not np.array_equal(value[~finite & ~np.isnan(want)], want[~finite & ~np.isnan(want)]):
        return Outcome(np.inf, np.inf, "infinities of the wrong sign")
    if not finite.any():
        return Outcome(0.0, 0.0)
    error = np.abs(value[finite] - want[finite])
    scale = max(float(np.abs(want[finite]).max()), 1e-30)
    spacing = np.maximum(np.abs(want[finite]), scale * 1e-3) * _epsilon(got.dtype)
    return Outcome(float(error.max() / scale), float((error / spacing).max()))


def _is_nan(array: Array) -> Array:
    """Where floats are NaN; nowhere in integers and bools."""
    if array.dtype.kind in "iub":
        return np.zeros(array.shape, bool)
    return np.isnan(array.astype(np.float64))


def _epsilon(dtype: np.dtype[Any]) -> float:
    return 2.0**-8 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps)


def _largest(dtype: np.dtype[Any]) -> float:
    return 3.38953139e38 if dtype.name == "bfloat16" else float(np.finfo(dtype).max)
