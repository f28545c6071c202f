"""The node tests of the onnx package, and how one is run on a device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
from dlk import _core
from dlk.importers.onnx import load_graph
from onnx import numpy_helper

DATA = Path(onnx.backend.test.__file__).parent / "data" / "node"
RTOL, ATOL = 1e-3, 1e-7  # the onnx package's own

NOT_BUILT = "not built"  # an operator that the engine has not
NOT_HELD = "not held"  # an element type (strings, 4 and 8 bit floats, ...) or sequences


@dataclass(frozen=True)
class Case:
    """One node test: its folder, and why it is not run ("" when it is)."""

    name: str
    left_out: str


@cache
def all_cases() -> list[Case]:
    """Every node test of the installed onnx package, sorted by name."""
    folders = sorted(path.parent for path in DATA.glob("*/model.onnx"))
    return [Case(folder.name, _left_out(folder)) for folder in folders]


def run_cases() -> list[str]:
    """Names of the tests whose operators are all built."""
    return [case.name for case in all_cases() if not case.left_out]


PLANNED = {("If", "")}  # control flow that the planner resolves: no operator of its own


def _operators(graph: Any) -> set[tuple[str, str]]:
    found = set()
    for node in graph.nodes:
        found.add((node.op, node.domain))
        for value in node.attributes.values():
            if isinstance(value, _core.Graph):
                found |= _operators(value)
    return found


def _left_out(folder: Path) -> str:
    try:
        graph = load_graph(folder / "model.onnx")
    except ValueError:
        return NOT_HELD
    built = all(_core.has_operator(op, domain) for op, domain in _operators(graph) - PLANNED)
    return "" if built else NOT_BUILT


def _read(path: Path) -> np.ndarray:
    return np.asarray(numpy_helper.to_array(onnx.load_tensor(str(path))))


def check(name: str, device: Any) -> None:
    """Runs one test; AssertionError or the engine's error when it fails."""
    folder = DATA / name
    graph = load_graph(folder / "model.onnx")
    model = _core.Model(graph, device)
    session = model.create_session()
    for data in sorted(folder.glob("test_data_set_*")):
        inputs = {
            value.name: _read(data / f"input_{index}.pb")
            for index, value in enumerate(graph.inputs)
        }
        results = session.run(inputs)
        for index, output in enumerate(graph.output_names):
            expected, result = _read(data / f"output_{index}.pb"), results[output]
            assert result.dtype == expected.dtype, f"{output} is {result.dtype}"
            assert result.shape == expected.shape, f"{output} has shape {result.shape}"
            if result.dtype.kind in "fV":
                result, expected = result.astype(np.float64), expected.astype(np.float64)
            np.testing.assert_allclose(result, expected, rtol=RTOL, atol=ATOL, err_msg=output)
