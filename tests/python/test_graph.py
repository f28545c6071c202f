"""dlk._core.Graph: what goes in comes out, and wrong things are refused in words."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from dlk import _core

from .nets import dense


def test_values_and_nodes() -> None:
    graph = dense()
    graph.validate()
    (x,) = graph.inputs
    assert (x.name, x.kind, x.dtype, x.shape) == ("x", "input", "float32", ("N", 6))
    assert x.data is None
    assert x.producer is None
    assert graph.output_names == ["y"]
    assert [n.op for n in graph.nodes] == ["MatMul", "Add", "Relu"]
    product, total, _ = graph.nodes
    assert total.inputs[0] == product.outputs[0]
    assert graph.value(product.outputs[0]).producer == product.id
    assert graph.find("w") is not None
    assert graph.find("nothing") is None
    assert graph.topological_order() == [0, 1, 2]


def test_constants_share_memory() -> None:
    graph = _core.Graph()
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    value = graph.value(graph.add_constant("c", array))
    assert np.shares_memory(value.data, array)
    assert value.data is not None
    assert not value.data.flags.writeable
    turned = graph.value(graph.add_constant("t", array.T))
    np.testing.assert_array_equal(turned.data, array.T)
    swapped = graph.value(graph.add_constant("s", array.astype(">f4")))
    np.testing.assert_array_equal(swapped.data, array)


def test_constants_keep_arrays_alive() -> None:
    array = np.zeros(4, np.float32)
    gone = weakref.ref(array)
    graph = _core.Graph()
    graph.add_constant("c", array)
    del array
    gc.collect()
    assert gone() is not None
    del graph
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (3, 3),
        (True, 1),
        (np.int32(4), 4),
        (0.5, 0.5),
        (np.float32(0.5), 0.5),
        ("same", "same"),
        (b"same", "same"),
        ([1, 2], [1, 2]),
        ((1, 2), [1, 2]),
        ([1, 2.5], [1.0, 2.5]),
        (["a", b"b"], ["a", "b"]),
        (("ints", []), []),
        (("floats", [1]), [1.0]),
        (("strings", ["x"]), ["x"]),
    ],
)
def test_attributes(value: object, back: object) -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [1])
    graph.add_node("Op", [x], {"a": value})
    got = graph.nodes[0].attributes["a"]
    assert got == back
    assert type(got) is type(back)


def test_tensor_and_graph_attributes() -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "bool", [])
    array = np.arange(3, dtype=np.int64)
    graph.add_node("If", [x, None], {"value": array, "then_branch": dense()}, outputs=2)
    node = graph.nodes[0]
    np.testing.assert_array_equal(node.attributes["value"], array)
    assert len(node.attributes["then_branch"].nodes) == 3
    assert node.inputs == [x, None]
    assert len(node.outputs) == 2


@pytest.mark.parametrize("value", [[], [1, "a"], object(), [object()], ("lists", [])])
def test_attributes_without_a_type(value: object) -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [1])
    with pytest.raises(ValueError, match="attribute a"):
        graph.add_node("Op", [x], {"a": value})


def test_variables_and_assignment() -> None:
    graph = _core.Graph()
    counter = graph.add_variable("counter", np.zeros(1, np.float32), trainable=False)
    one = graph.add_constant("one", np.ones(1, np.float32))
    following = graph.add_node("Add", [counter, one])[0]
    graph.assign(counter, following)
    graph.add_output(following, "y")
    graph.validate()
    assert graph.assignments == [(counter, following)]
    assert graph.value(counter).kind == "variable"
    assert not graph.value(counter).trainable


def test_bfloat16() -> None:
    graph = _core.Graph()
    bits = np.array([0x3F80, 0x4000], np.uint16)  # 1.0, 2.0
    value = graph.value(graph.add_constant("c", bits, dtype="bfloat16"))
    assert value.dtype == "bfloat16"
    assert value.data is not None
    np.testing.assert_array_equal(value.data.view(np.uint16), bits)
    assert graph.value(graph.add_constant("u", bits)).dtype == "uint16"


def test_info() -> None:
    graph = _core.Graph()
    graph.info.text = {"name": "a"}
    graph.info.text["license"] = "MIT"
    graph.info.labels = ["cat", "dog"]
    graph.info.preprocessing = "{}"
    assert graph.info.text.to_dict() == {"name": "a", "license": "MIT"}
    assert list(graph.info.text) == ["license", "name"]
    assert graph.info.text.get("nothing") == ""
    assert "name" in graph.info.text
    with pytest.raises(KeyError):
        graph.info.text["nothing"]
    del graph.info.text["name"]
    assert len(graph.info.text) == 1
    assert graph.info.labels == ("cat", "dog")


def test_copies_are_apart() -> None:
    graph = dense()
    copy = graph.copy()
    copy.add_input("extra", "float32", [1])
    copy.info.labels = ["x"]
    assert graph.find("extra") is None
    assert graph.info.labels == ()


def test_wrong_things() -> None:
    graph = _core.Graph()
    with pytest.raises(ValueError, match="unknown dtype 'float33'"):
        graph.add_input("x", "float33", [1])
    with pytest.raises(ValueError, match="negative"):
        graph.add_input("x", "float32", [-1])
    with pytest.raises(ValueError, match="complex64"):
        graph.add_constant("c", np.zeros(2, np.complex64))
    with pytest.raises(ValueError, match="object"):
        graph.add_constant("c", np.array([object()]))
    with pytest.raises(ValueError, match="float32"):
        graph.add_constant("c", np.zeros(2, np.float32), dtype="bfloat16")
    with pytest.raises(ValueError, match="99"):
        graph.add_node("Relu", [99])
    with pytest.raises(ValueError, match="99"):
        graph.value(99)
    with pytest.raises(TypeError):
        graph.add_node("Relu", ["x"])  # type: ignore[list-item]


def test_symbolic_shapes() -> None:
    shapes = _core.symbolic_shapes(dense())
    assert shapes["x"] == ["N", "6"]
    assert [shape for name, shape in shapes.items() if name.startswith("relu")] == [["N", "4"]]


def test_operators_are_listed() -> None:
    operators = {(op["domain"], op["name"]): op for op in _core.operators()}
    conv = operators["", "Conv"]
    assert conv["since_version"] >= 1
    assert conv["lower"]
    assert conv["doc"]
    assert _core.has_operator("Conv")
    assert not _core.has_operator("Conv", "nowhere")
