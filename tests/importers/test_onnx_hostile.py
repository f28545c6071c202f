"""Damaged and hostile ONNX files: a ValueError that says what is wrong, and never a crash."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from dlk.importers.onnx import load_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from .test_onnx_adapters import make_model, node

X = np.ones((2, 3), np.float32)


def small_model() -> onnx.ModelProto:
    weights = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
    return make_model([node("Add", ["x", "w"])], {"x": X}, ["y"], 13, weights)


def external_model(location: str, **entries: str) -> onnx.ModelProto:
    model = small_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model


def test_missing_empty_and_random_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_graph(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match="empty"):
        load_graph(b"")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.onnx is empty"):
        load_graph(tmp_path / "empty.onnx")
    with pytest.raises(ValueError, match="holds no graph"):
        load_graph(onnx.ModelProto())


def test_every_truncation_is_refused_or_whole() -> None:
    data = small_model().SerializeToString()
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"."):
            load_graph(data[:length])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        load_graph(data)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes(changes: list[tuple[int, int]]) -> None:
    data = bytearray(small_model().SerializeToString())
    for position, byte in changes:
        data[position % len(data)] = byte
    try:
        load_graph(bytes(data))
    except (ValueError, NotImplementedError):
        return


def test_declared_size_without_data() -> None:
    model = small_model()
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 40]
    with pytest.raises(ValueError, match="the file is damaged"):
        load_graph(model)
    model.graph.initializer[0].dims[:] = [-2, -3]
    with pytest.raises(ValueError, match="is not one"):
        load_graph(model)
    model.graph.initializer[0].dims[:] = [1] * 40
    with pytest.raises(ValueError, match="is not one"):
        load_graph(model)
    model = small_model()
    model.graph.initializer[0].ClearField("raw_data")
    with pytest.raises(ValueError, match="declares 6 elements but holds 0"):
        load_graph(model)


def test_unsupported_elements_are_named() -> None:
    model = small_model()
    model.graph.initializer[0].data_type = TensorProto.COMPLEX64
    with pytest.raises(ValueError, match="COMPLEX64"):
        load_graph(model)
    model.graph.initializer[0].data_type = 99
    with pytest.raises(ValueError, match="number 99"):
        load_graph(model)
    model = small_model()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.COMPLEX128
    with pytest.raises(ValueError, match="COMPLEX128"):
        load_graph(model)
    cast = make_model([node("Cast", ["x"], to=TensorProto.COMPLEX64)], {"x": X}, ["y"], 19)
    with pytest.raises(ValueError, match="COMPLEX64"):
        load_graph(cast)


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../secret.bin", "a/../../secret.bin", "", "a\\..\\..\\b", "x\0y"]
)
def test_external_data_stays_in_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(24))
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "m.onnx"
    path.write_bytes(external_model(location).SerializeToString())
    with pytest.raises(ValueError, match="only relative paths"):
        load_graph(path)


def test_external_data_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(24))
    (tmp_path / "inner").mkdir()
    os.symlink(tmp_path / "secret.bin", tmp_path / "inner" / "w.bin")
    path = tmp_path / "inner" / "m.onnx"
    path.write_bytes(external_model("w.bin").SerializeToString())
    with pytest.raises(ValueError, match="link out of"):
        load_graph(path)


def test_external_data_is_read(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32)
    (tmp_path / "w.bin").write_bytes(bytes(8) + values.tobytes())
    path = tmp_path / "m.onnx"
    path.write_bytes(external_model("w.bin", offset="8", length="24").SerializeToString())
    graph = load_graph(path)
    data = [v.data for v in graph.values if v.kind == "constant"]
    np.testing.assert_array_equal(data[0], values.reshape(2, 3))
    with pytest.raises(ValueError, match="load the model by its path"):
        load_graph(path.read_bytes())
    assert load_graph(path.read_bytes(), external_data=tmp_path).nodes[0].op == "Add"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": "16"}, "incomplete"),
        ({"offset": "-1"}, "external data"),
        ({"offset": "one"}, "must be numbers"),
        ({"length": "8"}, "declares 8"),
    ],
)
def test_external_data_of_wrong_size(tmp_path: Path, entries: dict[str, str], message: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(24))
    path = tmp_path / "m.onnx"
    path.write_bytes(external_model("w.bin", **entries).SerializeToString())
    with pytest.raises(ValueError, match=message):
        load_graph(path)


def test_missing_external_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(external_model("gone.bin").SerializeToString())
    with pytest.raises(ValueError, match="is missing"):
        load_graph(path)


def test_cycles_and_unknown_names() -> None:
    nodes = [node("Relu", ["b"], ["a"]), node("Relu", ["a"], ["b"]), node("Add", ["a", "x"])]
    with pytest.raises(ValueError, match="cycle"):
        load_graph(make_model(nodes, {"x": X}, ["y"], 13))
    with pytest.raises(ValueError, match="'nowhere', which is no input"):
        load_graph(make_model([node("Relu", ["nowhere"])], {"x": X}, ["y"], 13))
    with pytest.raises(ValueError, match="the graph's output uses 'z'"):
        load_graph(make_model([node("Relu", ["x"])], {"x": X}, ["z"], 13))
    with pytest.raises(ValueError, match="no outputs"):
        load_graph(make_model([node("Relu", ["x"])], {"x": X}, [], 13))


def test_names_are_assigned_once() -> None:
    nodes = [node("Relu", ["x"]), node("Abs", ["x"])]
    with pytest.raises(ValueError, match="a second time"):
        load_graph(make_model(nodes, {"x": X}, ["y"], 13))
    model = small_model()
    model.graph.initializer.append(numpy_helper.from_array(X, "w"))
    with pytest.raises(ValueError, match="twice"):
        load_graph(model)
    model = small_model()
    model.graph.input.append(model.graph.input[0])
    with pytest.raises(ValueError, match="'x'"):
        load_graph(model)


@pytest.mark.parametrize("opset", [0, -1, 26, 1 << 40])
def test_unknown_opsets(opset: int) -> None:
    model = small_model()
    model.opset_import[0].version = opset
    with pytest.raises(ValueError, match="opsets 1 to 25"):
        load_graph(model)


def test_sparse_weights_and_sequences() -> None:
    model = small_model()
    model.graph.sparse_initializer.add()
    with pytest.raises(ValueError, match="sparse"):
        load_graph(model)
    model = small_model()
    tensors = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [2]))
    model.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(tensors))
    with pytest.raises(ValueError, match="no sequences of sequences"):
        load_graph(model)


def function(name: str, calls: list[str]) -> onnx.FunctionProto:
    nodes = [node("Relu", ["x"], ["t0"])]
    for index, callee in enumerate(calls):
        nodes.append(helper.make_node(callee, [f"t{index}"], [f"t{index + 1}"], domain="local"))
    nodes.append(node("Identity", [f"t{len(calls)}"]))
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["x"], ["y"], nodes, opsets)


def test_recursive_functions() -> None:
    call = helper.make_node("A", ["x"], ["y"], domain="local")
    functions = [function("A", ["B"]), function("B", ["A"])]
    with pytest.raises(ValueError, match="calls itself"):
        load_graph(make_model([call], {"x": X}, ["y"], 13, functions=functions))


def test_functions_that_multiply() -> None:
    names = [f"F{i}" for i in range(20)]
    functions = [function(n, [m] * 10) for n, m in pairwise(names)]
    functions.append(function(names[-1], []))
    call = helper.make_node("F0", ["x"], ["y"], domain="local")
    with pytest.raises(ValueError, match="expands to"):
        load_graph(make_model([call], {"x": X}, ["y"], 13, functions=functions))


def test_deep_subgraphs() -> None:
    def nested(depth: int) -> onnx.GraphProto:
        inner = node("Relu", ["x"], [f"y{depth}"])
        if depth:
            branch = nested(depth - 1)
            inner = node("If", ["c"], [f"y{depth}"], then_branch=branch, else_branch=branch)
        output = helper.make_empty_tensor_value_info(f"y{depth}")
        return helper.make_graph([inner], "g", [], [output])

    branch = nested(4)
    model = make_model(
        [node("If", ["c"], then_branch=branch, else_branch=branch)],
        {"x": X, "c": np.array(True)},
        ["y"],
        13,
    )
    assert load_graph(model).nodes[0].op == "If"


def test_attributes_that_lie() -> None:
    model = make_model([node("Relu", ["x"])], {"x": X}, ["y"], 13)
    attribute = model.graph.node[0].attribute.add()
    attribute.name, attribute.type, attribute.s = "a", onnx.AttributeProto.STRING, b"\xff\xfe"
    with pytest.raises(ValueError, match="UTF-8"):
        load_graph(model)
    attribute.type, attribute.ref_attr_name = onnx.AttributeProto.FLOAT, "b"
    with pytest.raises(ValueError, match="body of a function"):
        load_graph(model)
    attribute.ref_attr_name = ""
    model.graph.node[0].attribute.append(attribute)
    with pytest.raises(ValueError, match="twice"):
        load_graph(model)
    model.graph.node[0].op_type = ""
    with pytest.raises(ValueError, match="no operator type"):
        load_graph(model)


def test_old_operators_without_their_inputs() -> None:
    for op in ("PRelu", "Softmax", "Clip", "Pad", "TopK", "Upsample", "GroupNormalization"):
        for opset in (1, 9, 12, 18):
            model = make_model([node(op, [])], {"x": X}, ["y"], opset)
            try:
                load_graph(model)
            except ValueError:
                continue
