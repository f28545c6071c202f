"""Graphs as ONNX models and back: the same structure, and the same results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from dlk import _core, zoo
from dlk.exporters.onnx import save_onnx, to_onnx
from dlk.importers.onnx import load_graph

from tests.onnx.families import DATA


def _operators(graph: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for node in graph.nodes:
        found[f"{node.domain}.{node.op}"] += 1
        for value in node.attributes.values():
            if isinstance(value, _core.Graph):
                found.update(_operators(value))
    return found


def _readable() -> list[str]:
    names = []
    for path in sorted((DATA / "node").glob("*/model.onnx")):
        try:
            load_graph(path)
        except ValueError:
            continue
        names.append(path.parent.name)
    return names


def test_node_models_come_back() -> None:
    """Every model of the node tests that dlk reads."""
    wrong = []
    names = _readable()
    for name in names:
        graph = load_graph(DATA / "node" / name / "model.onnx")
        try:
            model = to_onnx(graph)
            onnx.checker.check_model(model)
            back = load_graph(model)
        except (ValueError, RuntimeError, onnx.checker.ValidationError) as error:
            wrong.append(f"{name}: {str(error)[:200]}")
            continue
        before, after = _operators(graph), _operators(back)
        after[".Identity"] = before[".Identity"]  # outputs under another name
        if before != after or graph.output_names != back.output_names:
            wrong.append(f"{name}: {before} became {after}")
    assert not wrong, f"{len(wrong)} of {len(names)}: " + "\n".join(wrong[:20])


@pytest.mark.parametrize(
    "name",
    [
        "test_loop11",
        "test_loop13_seq",
        "test_if",
        "test_if_opt",
        "test_scan9_sum",
        "test_sequence_map_add_2_sequences",
        "test_lstm_with_peepholes",
        "test_resize_upsample_scales_cubic",
        "test_optional_get_element_sequence",
    ],
)
def test_results_are_the_same(name: str, device: Any) -> None:
    from tests.onnx.backend import Prepared, runner_for

    folder = DATA / "node" / name
    model = to_onnx(load_graph(folder / "model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    prepared = Prepared(model, device)
    runner = runner_for("")
    original = onnx.load(folder / "model.onnx")
    given: list[Any] = []
    expected: list[Any] = []
    for target, kind, declared in (
        (given, "input", original.graph.input),
        (expected, "output", original.graph.output),
    ):
        for index, value in enumerate(declared):
            path = folder / "test_data_set_0" / f"{kind}_{index}.pb"
            runner._load_proto(str(path), target, value.type)
    runner.assert_similar_outputs(expected, prepared.run(given), rtol=1e-3, atol=1e-6)


def test_networks(tmp_path: Path, device: Any) -> None:
    graph = zoo.build("lenet", weights="random", seed=3)
    path = tmp_path / "lenet.onnx"
    save_onnx(graph, path, opset=21)
    onnx.checker.check_model(str(path))
    back = load_graph(path)
    assert [(v.name, v.shape) for v in back.inputs] == [(v.name, v.shape) for v in graph.inputs]
    x = np.random.default_rng(0).standard_normal((2, 1, 28, 28)).astype(np.float32)
    results = [
        _core.Model(g, device).create_session().run({g.inputs[0].name: x}) for g in (graph, back)
    ]
    for name in graph.output_names:
        np.testing.assert_allclose(results[0][name], results[1][name], rtol=1e-5, atol=1e-6)


def test_state_becomes_inputs_and_outputs() -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", ["N"])
    total = graph.add_variable("total", np.zeros(3, np.float32))
    (new,) = graph.add_node("Add", [x, total])
    graph.add_output(x, "same")
    graph.add_output(new, "y")
    graph.assign(total, new)
    with pytest.raises(ValueError, match="opset 7"):
        to_onnx(graph, opset=7)
    graph = graph.copy()
    model = to_onnx(graph)
    onnx.checker.check_model(model)
    assert [value.name for value in model.graph.input] == ["x", "total"]
    assert [value.name for value in model.graph.output] == ["same", "y", "total:next"]
    assert [tensor.name for tensor in model.graph.initializer] == ["total"]


def test_bfloat16_weights() -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "bfloat16", [2])
    w = graph.add_constant("w", np.array([0x3F80, 0x4000], np.uint16), "bfloat16")
    graph.add_output(graph.add_node("Mul", [x, w])[0], "y")
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.initializer[0].data_type == onnx.TensorProto.BFLOAT16
    assert load_graph(model).inputs[0].dtype == "bfloat16"
