"""Old forms of operators that the ONNX suites do not have: the newest form computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from dlk import _core
from dlk.importers.onnx import load_graph
from onnx import TensorProto, helper, numpy_helper

from .test_onnx_suites import run
from .to_onnx import to_model

RNG = np.random.default_rng(7)


def make_model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, np.ndarray],
    outputs: list[str],
    opset: int,
    constants: dict[str, np.ndarray] | None = None,
    **extra: Any,
) -> onnx.ModelProto:
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in inputs.items()
    ]
    outs = [helper.make_empty_tensor_value_info(n) for n in outputs]
    initializers = [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", infos, outs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **extra)
    model.ir_version = 10
    return model


def compute(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, np.ndarray],
    opset: int,
    constants: dict[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Output "y" of the imported model."""
    graph = load_graph(make_model(nodes, inputs, ["y"], opset, constants))
    return run(to_model(graph), inputs)[0]


def node(op: str, inputs: list[str], outputs: list[str] | None = None, **attributes: Any) -> Any:
    return helper.make_node(op, inputs, outputs or ["y"], **attributes)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
def test_broadcast_along_an_axis(op: str) -> None:
    a, b = np.abs(random(2, 3, 4, 5)) + 1, np.abs(random(3, 4)) + 1
    y = compute([node(op, ["a", "b"], broadcast=1, axis=1)], {"a": a, "b": b}, 6)
    function = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Pow": "power"}
    expected = getattr(np, function[op])(a, b[None, :, :, None])
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_broadcast_of_a_suffix() -> None:
    a, b = random(2, 3, 4), random(3, 4)
    y = compute([node("Add", ["a", "b"], broadcast=1)], {"a": a, "b": b}, 6)
    np.testing.assert_allclose(y, a + b, rtol=1e-6)


def test_broadcast_needs_a_rank() -> None:
    a, b = random(2, 3, 4), random(3)
    nodes = [
        helper.make_node("Mystery", ["a"], ["t"], domain="other"),
        node("Add", ["t", "b"], broadcast=1, axis=1),
    ]
    with pytest.raises(ValueError, match="rank of 't' is needed"):
        load_graph(make_model(nodes, {"a": a, "b": b}, ["y"], 6))


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3])
def test_softmax_of_rows(op: str, axis: int | None) -> None:
    x = random(2, 3, 4, 5)
    attributes = {} if axis is None else {"axis": axis}
    y = compute([node(op, ["x"], **attributes)], {"x": x}, 11)
    split = 1 if axis is None else axis
    rows = x.reshape(int(np.prod(x.shape[:split])), -1).astype(np.float64)
    shifted = np.exp(rows - rows.max(1, keepdims=True))
    expected = shifted / shifted.sum(1, keepdims=True)
    if op == "LogSoftmax":
        expected = np.log(expected)
    if op == "Hardmax":
        expected = (rows == rows.max(1, keepdims=True)).astype(np.float64)
    np.testing.assert_allclose(y, expected.reshape(x.shape), rtol=1e-5, atol=1e-6)


def test_softmax_of_unknown_rank_is_flattened() -> None:
    x = random(2, 3, 4)
    nodes = [node("Mystery", ["x"], ["t"]), node("Softmax", ["t"])]
    nodes[0].domain = "other"
    graph = load_graph(make_model(nodes, {"x": x}, ["y"], 11))
    assert [n.op for n in graph.nodes] == ["Mystery", "Flatten", "Softmax", "Shape", "Reshape"]


def test_batch_normalization_of_each_activation() -> None:
    x, scale, bias = random(2, 3, 4), random(3, 4), random(3, 4)
    mean, var = random(3, 4), np.abs(random(3, 4)) + 0.5
    constants = {"s": scale, "b": bias, "m": mean, "v": var}
    nodes = [node("BatchNormalization", ["x", *constants], spatial=0, epsilon=1e-3)]
    y = compute(nodes, {"x": x}, 8, constants)
    expected = (x - mean) / np.sqrt(var + 1e-3) * scale + bias
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_batch_normalization_in_training_is_refused() -> None:
    names = ["x", "s", "b", "m", "v"]
    nodes = [node("BatchNormalization", names, ["y", "m2"]), node("Identity", ["m2"], ["z"])]
    feeds = {n: np.abs(random(2, 3)) if n == "x" else np.abs(random(3)) for n in names}
    with pytest.raises(ValueError, match="training form"):
        load_graph(make_model(nodes, feeds, ["y", "z"], 9))


def test_cast_to_a_named_type() -> None:
    y = compute([node("Cast", ["x"], to="INT32")], {"x": random(4) * 10}, 5)
    assert y.dtype == np.int32


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_clip_bounds_take_the_type_of_the_data(dtype: type) -> None:
    x = (random(10) * 3).astype(dtype)
    y = compute([node("Clip", ["x"], min=-1.0, max=0.5)], {"x": x}, 6)
    np.testing.assert_array_equal(y, np.clip(x, dtype(-1), dtype(0.5)))


def test_dropout_passes_through() -> None:
    x = random(3, 4)
    nodes = [node("Dropout", ["x"], ["y", "mask"], ratio=0.5)]
    np.testing.assert_array_equal(compute(nodes, {"x": x}, 7), x)


def test_slice_by_attributes() -> None:
    x = random(5, 6, 7)
    nodes = [node("Slice", ["x"], starts=[1, -3], ends=[4, 100], axes=[0, 2])]
    np.testing.assert_array_equal(compute(nodes, {"x": x}, 9), x[1:4, :, -3:])


@pytest.mark.parametrize(("opset", "name"), [(1, "paddings"), (2, "pads")])
def test_pad_by_attributes(opset: int, name: str) -> None:
    x = random(2, 3)
    nodes = [node("Pad", ["x"], value=1.5, **{name: [0, 1, 2, 0]})]
    expected = np.pad(x, ((0, 2), (1, 0)), constant_values=1.5)
    np.testing.assert_array_equal(compute(nodes, {"x": x}, opset), expected)


def test_split_by_attribute_and_evenly() -> None:
    x = random(6, 2)
    nodes = [node("Split", ["x"], ["a", "y"], split=[2, 4])]
    np.testing.assert_array_equal(compute(nodes, {"x": x}, 11), x[2:])
    nodes = [node("Split", ["x"], ["a", "b", "y"])]
    np.testing.assert_array_equal(compute(nodes, {"x": x}, 13), x[4:])


@pytest.mark.parametrize("opset", [1, 7, 9])
def test_upsample(opset: int) -> None:
    x = random(1, 2, 3, 4)
    constants = {"s": np.array([1, 1, 2, 3], np.float32)} if opset == 9 else {}
    scales: dict[str, Any] = {1: {"height_scale": 2.0, "width_scale": 3.0}, 9: {}}.get(
        opset, {"scales": [1.0, 1.0, 2.0, 3.0]}
    )
    nodes = [node("Upsample", ["x", *constants], mode="nearest", **scales)]
    y = compute(nodes, {"x": x}, opset, constants)
    np.testing.assert_array_equal(y, x.repeat(2, axis=2).repeat(3, axis=3))


def test_resize_10_is_asymmetric() -> None:
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    constants = {"s": np.array([1, 1, 1, 2], np.float32)}
    y = compute([node("Resize", ["x", "s"], mode="linear")], {"x": x}, 10, constants)
    np.testing.assert_allclose(y.ravel(), [0, 0.5, 1, 1.5, 2, 2.5, 3, 3])


def test_resize_drops_empty_inputs() -> None:
    x = random(1, 1, 2, 2)
    empty = np.zeros(0, np.float32)
    constants = {"roi": empty, "scales": empty, "sizes": np.array([1, 1, 4, 4], np.int64)}
    nodes = [node("Resize", ["x", *constants], mode="nearest")]
    graph = load_graph(make_model(nodes, {"x": x}, ["y"], 11, constants))
    assert graph.nodes[0].inputs[1:3] == [None, None]


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2"])
def test_reduce_axes_attribute(op: str) -> None:
    x = random(2, 3, 4)
    y = compute([node(op, ["x"], axes=[0, 2], keepdims=0)], {"x": x}, 11)
    expected = {
        "ReduceSum": x.sum((0, 2)),
        "ReduceMean": x.mean((0, 2)),
        "ReduceMax": x.max((0, 2)),
        "ReduceL2": np.sqrt((x * x).sum((0, 2))),
    }[op]
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_reshape_attribute_and_squeeze() -> None:
    x = random(2, 6)
    nodes = [
        node("Reshape", ["x"], ["t"], shape=[1, 3, 4]),
        node("Squeeze", ["t"], ["u"], axes=[0]),
        node("Unsqueeze", ["u"], axes=[2]),
    ]
    np.testing.assert_array_equal(compute(nodes, {"x": x}, 4), x.reshape(3, 4, 1))


def test_top_k_attribute() -> None:
    x = random(3, 8)
    nodes = [node("TopK", ["x"], ["y", "i"], k=2)]
    np.testing.assert_array_equal(compute(nodes, {"x": x}, 9), -np.sort(-x, axis=1)[:, :2])


def test_tile_along_one_axis() -> None:
    x = random(2, 3)
    constants = {"n": np.array(2, np.int64), "axis": np.array(1, np.int64)}
    y = compute([node("Tile", ["x", "n", "axis"])], {"x": x}, 1, constants)
    np.testing.assert_array_equal(y, np.tile(x, (1, 2)))


def test_prelu_slope_of_channels() -> None:
    x, slope = random(2, 3, 4, 4), np.array([0.1, 0.2, 0.3], np.float32)
    y = compute([node("PRelu", ["x", "s"])], {"x": x}, 6, {"s": slope})
    np.testing.assert_allclose(y, np.where(x > 0, x, x * slope[:, None, None]), rtol=1e-6)


def test_group_normalization_of_opset_18() -> None:
    x, scale, bias = random(2, 6, 3, 3), random(3), random(3)
    constants = {"s": scale, "b": bias}
    nodes = [node("GroupNormalization", ["x", "s", "b"], num_groups=3, epsilon=1e-3)]
    y = compute(nodes, {"x": x}, 18, constants)
    groups = x.reshape(2, 3, -1).astype(np.float64)
    normal = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + 1e-3)
    expected = normal * scale[None, :, None] + bias[None, :, None]
    np.testing.assert_allclose(y, expected.reshape(x.shape), rtol=1e-4, atol=1e-5)


def test_gemm_broadcast_and_concat_default() -> None:
    a, b, c = random(2, 3), random(3, 4), random(4)
    nodes = [
        node("Gemm", ["a", "b", "c"], ["t"], broadcast=1, alpha=0.5),
        node("Concat", ["t", "t"]),
    ]
    y = compute(nodes, {"a": a, "b": b, "c": c}, 1)
    expected = 0.5 * a @ b + c
    np.testing.assert_allclose(y, np.concatenate([expected, expected], 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"value_int": 3}, np.array(3, np.int64)),
        ({"value_ints": [3, 4]}, np.array([3, 4], np.int64)),
        ({"value_float": 0.5}, np.array(0.5, np.float32)),
        ({"value_floats": [0.5, 1.0]}, np.array([0.5, 1.0], np.float32)),
    ],
)
def test_constant_forms(value: dict[str, Any], expected: np.ndarray) -> None:
    graph = load_graph(make_model([node("Constant", [], **value)], {}, ["y"], 13))
    array = graph.outputs[0].data
    assert array is not None
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


def test_every_element_type_of_initializers() -> None:
    types = ["float16", "float32", "float64", "int8", "int16", "int32", "int64"]
    types += ["uint8", "uint16", "uint32", "uint64", "bool"]
    for name in types:
        array = np.array([[0, 1, 2], [3, 4, 5]]).astype(name)
        elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        raw = helper.make_tensor("c", elem_type, array.shape, array.tobytes(), raw=True)
        bits = {"float16": np.uint16, "bool": np.uint8}
        values = array.view(bits.get(name, array.dtype))
        typed = onnx.TensorProto(name="c", data_type=elem_type, dims=array.shape)
        field = {"float32": "float_data", "float64": "double_data", "int64": "int64_data"}.get(
            name, "uint64_data" if name in ("uint32", "uint64") else "int32_data"
        )
        getattr(typed, field).extend(values.ravel().tolist())
        for tensor in (raw, typed):
            model = make_model([node("Identity", ["c"])], {}, ["y"], 13)
            model.graph.initializer.append(tensor)
            data = load_graph(model).values[0].data
            assert data.dtype == array.dtype, name
            np.testing.assert_array_equal(data, array)


def test_bfloat16_initializer() -> None:
    bits = np.array([0x3F80, 0x4000], np.uint16)  # 1, 2
    tensor = helper.make_tensor("c", TensorProto.BFLOAT16, [2], bits.tobytes(), raw=True)
    model = make_model([node("Identity", ["c"])], {}, ["y"], 13)
    model.graph.initializer.append(tensor)
    value = load_graph(model).values[0]
    assert value.dtype == "bfloat16"
    assert np.asarray(value.data).astype(np.float32).tolist() == [1.0, 2.0]


def test_functions_are_inlined() -> None:
    function = helper.make_function(
        "local",
        "Scale",
        ["x", "bias"],
        ["out"],
        [
            helper.make_node("Constant", [], ["k"], value_float=2.0),
            helper.make_node("Mul", ["x", "k"], ["t"]),
            helper.make_node("Add", ["t", "bias"], ["u"]),
            helper.make_node("LeakyRelu", ["u"], ["out"]),
        ],
        [helper.make_opsetid("", 16)],
        ["slope"],
    )
    alpha = function.node[3].attribute.add()
    alpha.name, alpha.ref_attr_name, alpha.type = "alpha", "slope", onnx.AttributeProto.FLOAT
    x, b = random(2, 3), random(3)
    nodes = [
        helper.make_node("Scale", ["x", "b"], ["t"], domain="local", slope=0.5),
        helper.make_node("Scale", ["t", "b"], ["y"], domain="local", slope=0.25),
    ]
    model = make_model(nodes, {"x": x, "b": b}, ["y"], 16, functions=[function])
    model.opset_import.append(helper.make_opsetid("local", 1))
    y = run(to_model(load_graph(model)), {"x": x, "b": b})[0]
    t = 2 * x + b
    t = np.where(t > 0, t, 0.5 * t)
    t = 2 * t + b
    np.testing.assert_allclose(y, np.where(t > 0, t, 0.25 * t), rtol=1e-5, atol=1e-6)


def _branch(name: str, nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [helper.make_empty_tensor_value_info(f"{name}_y")])


def test_subgraphs_get_what_they_use_as_inputs() -> None:
    inner_then = _branch("c", [helper.make_node("Add", ["x", "w"], ["c_y"])])
    inner_else = _branch("d", [helper.make_node("Sub", ["x", "small"], ["d_y"])])
    then = _branch(
        "a",
        [
            helper.make_node(
                "If", ["flag2"], ["a_y"], then_branch=inner_then, else_branch=inner_else
            )
        ],
    )
    other = _branch("b", [helper.make_node("Mul", ["w", "x"], ["b_y"])])
    nodes = [node("If", ["flag"], then_branch=then, else_branch=other)]
    big = random(2000)
    feeds = {"x": random(2000), "flag": np.array(True), "flag2": np.array(False)}
    constants = {"w": big, "small": np.array([1.5], np.float32)}
    model = make_model(nodes, feeds, ["y"], 16, constants)
    graph = load_graph(model)
    (branching,) = graph.nodes
    then_graph = branching.attributes["then_branch"]
    else_graph = branching.attributes["else_branch"]
    assert isinstance(then_graph, _core.Graph)
    names = [graph.values[i].name for i in branching.inputs]
    assert names == ["flag", "w", "x", "flag2"]  # the small constant is copied instead
    assert [v.name for v in then_graph.inputs] == names[1:]
    assert [v.name for v in else_graph.inputs] == names[1:]
    for flag, flag2, expected in [
        (True, False, feeds["x"] - 1.5),
        (True, True, feeds["x"] + big),
        (False, True, feeds["x"] * big),
    ]:
        values = {"x": feeds["x"], "flag": np.array(flag), "flag2": np.array(flag2)}
        np.testing.assert_allclose(run(to_model(graph), values)[0], expected, rtol=1e-6)


def test_symbols_and_given_shapes() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", None, 3, -1])
    y = helper.make_empty_tensor_value_info("y")
    graph = helper.make_graph([node("Relu", ["x"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    assert tuple(load_graph(model).inputs[0].shape or ()) == ("batch", None, 3, None)
    given = load_graph(model, input_shapes={"x": (1, "c", 3, 4)})
    assert tuple(given.inputs[0].shape or ()) == (1, "c", 3, 4)
    with pytest.raises(ValueError, match="input_shapes names"):
        load_graph(model, input_shapes={"z": (1,)})
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ValueError, match="declares no shape"):
        load_graph(model)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("NegativeLogLikelihoodLoss", {"x": random(3, 5)}, {"reduction": "sum"}),
        ("SoftmaxCrossEntropyLoss", {"x": random(3, 5)}, {}),
    ],
)
def test_operators_become_their_definition(
    op: str, inputs: dict[str, np.ndarray], attributes: dict[str, Any]
) -> None:
    assert not _core.has_operator(op)
    constants = {"target": np.array([1, 0, 4])}
    nodes = [node(op, ["x", "target"], **attributes)]
    model = make_model(nodes, inputs, ["y"], 21, constants)
    graph = load_graph(model)
    assert all(_core.has_operator(n.op) for n in graph.nodes)
    np.testing.assert_allclose(
        run(to_model(graph), inputs)[0], run(model, inputs)[0], rtol=1e-5, atol=1e-6
    )
