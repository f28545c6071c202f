"""Small files that ask for much: an error that says what, of which node, and which limit; within
seconds and with bounded memory.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from dlk import _core
from dlk.importers.onnx import load_graph
from onnx import TensorProto, helper

from .test_onnx_adapters import make_model, node

X = np.ones((2, 3), np.float32)
LARGE = 1 << 33
MEMORY_BYTES, SECONDS = 1 << 30, 20


def ml(op: str, x: np.ndarray = X, **attributes: Any) -> onnx.ModelProto:
    made = helper.make_node(op, ["x"], ["y"], name="big", domain="ai.onnx.ml", **attributes)
    model = make_model([made], {"x": x}, ["y"], 21)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 5))
    return model


def tree(**changes: Any) -> onnx.ModelProto:
    attributes = {
        "nodes_featureids": [0],
        "nodes_splits": helper.make_tensor("s", TensorProto.FLOAT, [1], [0.5]),
        "nodes_modes": helper.make_tensor("m", TensorProto.UINT8, [1], [0]),
        "nodes_truenodeids": [0],
        "nodes_trueleafs": [1],
        "nodes_falsenodeids": [1],
        "nodes_falseleafs": [1],
        "tree_roots": [0],
        "leaf_targetids": [0, 0],
        "leaf_weights": helper.make_tensor("w", TensorProto.FLOAT, [2], [0.5, 1.5]),
    }
    return ml("TreeEnsemble", **(attributes | changes))


def old_tree(**changes: Any) -> onnx.ModelProto:
    attributes = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0],
        "target_nodeids": [1],
        "target_ids": [0],
        "target_weights": [1.0],
    }
    return ml("TreeEnsembleRegressor", **(attributes | changes))


def ngrams(**changes: Any) -> onnx.ModelProto:
    attributes = {
        "mode": "TF",
        "min_gram_length": 1,
        "max_gram_length": 2,
        "max_skip_count": 0,
        "ngram_counts": [0, 2],
        "ngram_indexes": [0, 1, 2],
        "pool_int64s": [1, 2, 1, 2],
    }
    made = node("TfIdfVectorizer", ["x"], name="big", **(attributes | changes))
    return make_model([made], {"x": np.ones((2, 3), np.int64)}, ["y"], 21)


def chain(depth: int) -> onnx.ModelProto:
    """A tree that is a list: each node has a leaf and the next node."""
    ids = list(range(depth))
    return tree(
        nodes_featureids=[0] * depth,
        nodes_splits=helper.make_tensor("s", TensorProto.FLOAT, [depth], [0.5] * depth),
        nodes_modes=helper.make_tensor("m", TensorProto.UINT8, [depth], [0] * depth),
        nodes_truenodeids=[0] * depth,
        nodes_trueleafs=[1] * depth,
        nodes_falsenodeids=[*ids[1:], 1],
        nodes_falseleafs=[*[0] * (depth - 1), 1],
    )


def old_scan() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Add", ["s", "e"], ["t"])],
        "body",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "se"],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, [1])],
    )
    scan = node("Scan", ["", "a", "b"], ["y"], name="big", body=body, num_scan_inputs=1)
    infos = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [LARGE, *s])
        for n, s in (("a", [1]), ("b", [2, 1]))
    ]
    graph = helper.make_graph([scan], "g", infos, [helper.make_empty_tensor_value_info("y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)])
    model.ir_version = 3
    return model


def measured(function: Callable[[], Any]) -> Any:
    """The result, within time and memory: what the process may ask for is limited meanwhile."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    start = time.monotonic()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, limits[1]))
    try:
        return function()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        assert time.monotonic() - start < SECONDS


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tree(n_targets=LARGE), r"big.* tables of \d+ elements .* limit is 67108864"),
        (old_tree(n_targets=LARGE), r"big.* tables of \d+ elements .* limit is 67108864"),
        (old_tree(n_targets=-1), r"big.*outside of"),
        (chain(2000), "more than 1024 levels"),
        (ngrams(ngram_indexes=[0, 1, LARGE]), r"big.* tables of \d+ elements"),
        (ngrams(ngram_indexes=[0, 1, -5]), "ngram_indexes"),
        (ngrams(max_skip_count=LARGE), r"big.*max_skip_count .* limit is 1024"),
        (old_scan(), r"big.*batch of 8589934592"),
    ],
)
def test_tables_of_the_importer(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measured(lambda: load_graph(model))


def test_tables_add_up() -> None:
    models = [tree(n_targets=1 << 24).graph.node[0] for _ in range(8)]
    for i, made in enumerate(models):
        made.output[0], made.name = f"y{i}", f"big{i}"
    model = tree()
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(models)
    model.graph.output.extend(helper.make_empty_tensor_value_info(f"y{i}") for i in range(8))
    with pytest.raises(ValueError, match="with those of the nodes before it"):
        measured(lambda: load_graph(model))


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("op", "inputs", "constants", "attributes"),
    [
        ("Expand", ["x", "c"], {"c": ints(LARGE, 2, 3)}, {}),
        ("Expand", ["x", "c"], {"c": ints(1 << 60, 2, 3)}, {}),
        ("Expand", ["x", "c"], {"c": ints(*[2] * 40, 2, 3)}, {}),
        ("ConstantOfShape", ["c"], {"c": ints(LARGE, 8)}, {}),
        ("ConstantOfShape", ["c"], {"c": ints(-1)}, {}),
        ("Tile", ["x", "c"], {"c": ints(LARGE, 1)}, {}),
        ("Tile", ["x", "c"], {"c": ints(1 << 62, 1 << 62)}, {}),
        ("Range", list("acb"), {"a": np.int64(0), "c": np.int64(1 << 62), "b": np.int64(1)}, {}),
        ("Range", list("acb"), {"a": np.int64(0), "c": np.int64(1 << 31), "b": np.int64(1)}, {}),
        ("Resize", ["x", "", "", "c"], {"c": ints(LARGE, 3)}, {}),
        ("Resize", ["x", "", "c"], {"c": np.array([1e18, 1e18], np.float32)}, {}),
        ("Pad", ["x", "c"], {"c": ints(LARGE, 0, 0, 0)}, {}),
        ("Pad", ["x", "c"], {"c": ints(1 << 62, 0, 1 << 62, 0)}, {}),
        ("OneHot", ["i", "d", "v"], {"i": ints(1, 2), "d": ints(1 << 50), "v": ints(0, 1)}, {}),
        ("CenterCropPad", ["x", "c"], {"c": ints(LARGE, 1 << 20)}, {}),
        ("RandomNormal", [], {}, {"shape": [LARGE, 16]}),
        ("HannWindow", ["c"], {"c": np.int64(1 << 60)}, {}),
        ("MelWeightMatrix", list("abcde"), {
            "a": np.int64(1 << 40), "b": np.int64(1 << 40), "c": np.int64(16000),
            "d": np.float32(0), "e": np.float32(8000)}, {}),
        ("MaxUnpool", ["p", "q", "c"], {
            "p": np.ones((1, 1, 2, 2), np.float32), "q": np.zeros((1, 1, 2, 2), np.int64),
            "c": ints(1, 1, LARGE, 2)}, {"kernel_shape": [2, 2]}),
        ("Col2Im", ["p", "c", "b"], {
            "p": np.ones((1, 4, 4), np.float32), "c": ints(LARGE, 2), "b": ints(2, 2)}, {}),
        ("AffineGrid", ["t", "c"], {
            "t": np.ones((1, 2, 3), np.float32), "c": ints(1, 1, LARGE, LARGE)}, {}),
    ],
)  # fmt: skip
def test_sizes_of_results(
    op: str, inputs: list[str], constants: dict[str, Any], attributes: dict[str, Any], device: Any
) -> None:
    """What no device could hold is refused when it is planned, with the node's name."""
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    made = node(op, inputs, ["big"], name="big_node", **attributes)
    nodes = [made, node("Identity", ["big"])]
    model = make_model(nodes, {"x": X}, ["y"], 22, arrays)

    def run() -> Any:
        graph = load_graph(model)
        return _core.Model(graph, device).create_session().run({"x": X})

    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises((ValueError, NotImplementedError, MemoryError), match=r"big_node|'y'|'big'"):
        run()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_BYTES >> 10
    assert time.monotonic() - start < SECONDS


def test_texts_that_double() -> None:
    nodes = [node("Identity", ["s"], ["t0"])]
    nodes += [node("StringConcat", [f"t{i}", f"t{i}"], [f"t{i + 1}"]) for i in range(60)]
    nodes.append(node("StringSplit", ["t60"], ["y"]))
    model = make_model(nodes, {}, ["y"], 21)
    model.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [1], [b"ab"]))
    graph = measured(lambda: load_graph(model))
    with pytest.raises(NotImplementedError, match="joins texts to more than"):
        measured(lambda: _core.symbolic_shapes(graph) and plan(graph))


def plan(graph: Any) -> None:
    _core.Model(graph, _core.open_device("null:0")).plan({})


def test_patterns_that_backtrack() -> None:
    made = node("RegexFullMatch", ["s"], pattern="(a|a|aa|a*)*b")
    model = make_model([made], {}, ["y"], 21)
    model.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [1], [b"a" * 5000]))
    graph = measured(lambda: load_graph(model))
    assert [value.data.tolist() for value in graph.values if value.name == "y"] == [[False]]


def test_loops_that_multiply() -> None:
    def nested(depth: int) -> onnx.GraphProto:
        nodes = [node("Relu", ["v"], ["w"])]
        if depth:
            nodes = [node("Loop", ["n", "", "v"], ["w"], body=nested(depth - 1))]
        nodes.append(node("Identity", ["c"], ["d"]))
        return helper.make_graph(
            nodes,
            "body",
            [
                helper.make_tensor_value_info("i", TensorProto.INT64, []),
                helper.make_tensor_value_info("c", TensorProto.BOOL, []),
                helper.make_tensor_value_info("v", TensorProto.FLOAT, [2, 3]),
            ],
            [
                helper.make_tensor_value_info("d", TensorProto.BOOL, []),
                helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 3]),
            ],
        )

    loop = node("Loop", ["n", "", "x"], body=nested(8))
    model = make_model([loop], {"x": X}, ["y"], 16, {"n": np.array(100, np.int64)})
    graph = measured(lambda: load_graph(model))
    with pytest.raises(NotImplementedError, match="more than 200000 nodes"):
        measured(lambda: _core.Model(graph, _core.open_device("null:0")).plan({"x": X}))


def test_inputs_left_out_between_others(device: Any) -> None:
    """Host evaluation reads no value that is not there."""
    arrays = {"a": ints(1, 2), "b": ints(3, 4)}
    nodes = [node("Max", ["a", "", "b"], ["m"]), node("Add", ["m", "i"])]
    graph = load_graph(make_model(nodes, {"i": ints(1, 1)}, ["y"], 21, arrays))
    with pytest.raises(ValueError, match="input 1 is missing"):
        _core.Model(graph, device).create_session().run({"i": ints(1, 1)})
