"""The graph transform: what it differentiates, what it costs, what it refuses, and `dlk.grad`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dlk
import numpy as np
import pytest
import torch
from dlk import _core, nn

Arrays = dict[str, np.ndarray]


def _run(graph: Any, device: Any, feeds: Arrays, **options: Any) -> Arrays:
    result: Arrays = _core.Model(graph, device, **options).create_session().run(feeds)
    return result


def _gradient(graph: Any, device: Any, y: int, wrt: dict[str, int], feeds: Arrays) -> Arrays:
    found = graph.gradients([y], list(wrt.values()))
    for name, gradient in zip(wrt, found, strict=True):
        graph.add_output(gradient, f"d{name}")
    return _run(graph, device, feeds)


def test_clip_between_limits(device: Any) -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [6])
    low = graph.add_constant("low", np.float32(-1))
    high = graph.add_constant("high", np.float32(1))
    (y,) = graph.add_node("Clip", [x, low, high])
    values = np.array([-2, -0.5, 0, 0.5, 2, 3], np.float32)
    got = _gradient(graph, device, y, {"x": x, "low": low, "high": high}, {"x": values})
    np.testing.assert_array_equal(got["dx"], [0, 1, 1, 1, 0, 0])
    assert (float(got["dlow"]), float(got["dhigh"])) == (1.0, 2.0)


def test_casts_between_floats(device: Any) -> None:
    if not device.caps["fp16_storage"]:
        pytest.skip("no fp16 storage")
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [4])
    (half,) = graph.add_node("Cast", [x], {"to": "float16"})
    (back,) = graph.add_node("CastLike", [half, x])
    (y,) = graph.add_node("Mul", [back, back])
    values = np.array([1, -2, 0.5, 3], np.float32)
    got = _gradient(graph, device, y, {"x": x}, {"x": values})
    np.testing.assert_array_equal(got["dx"], 2 * values)


def test_fan_out_is_added_up(device: Any) -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [3])
    (a,) = graph.add_node("Mul", [x, x])
    (b,) = graph.add_node("Exp", [x])
    (c,) = graph.add_node("Mul", [a, b])
    (y,) = graph.add_node("Add", [c, x])
    values = np.array([0.5, -1, 2], np.float32)
    got = _gradient(graph, device, y, {"x": x}, {"x": values})
    want = 2 * values * np.exp(values) + values**2 * np.exp(values) + 1
    np.testing.assert_allclose(got["dx"], want, rtol=1e-6)


def test_what_is_not_asked_for_costs_nothing() -> None:
    def nodes(wrt: list[str]) -> int:
        graph = _core.Graph()
        x = graph.add_input("x", "float32", ["N", 3, 8, 8])
        first = graph.add_variable("first", np.ones((4, 3, 3, 3), np.float32))
        last = graph.add_variable("last", np.ones((2, 4, 3, 3), np.float32))
        (a,) = graph.add_node("Conv", [x, first])
        (r,) = graph.add_node("Relu", [a])
        (y,) = graph.add_node("Conv", [r, last])
        before = len(graph.nodes)
        ids = {"x": x, "first": first, "last": last}
        graph.gradients([y], [ids[n] for n in wrt])
        ops = [n.op for n in graph.nodes[before:]]
        assert ("ConvInputGradient" in ops) == (wrt != ["last"])
        return len(ops)

    assert nodes(["last"]) < nodes(["first"]) < nodes(["x", "first", "last"])


def test_no_dependence_gives_none() -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [3])
    other = graph.add_input("other", "float32", [3])
    (y,) = graph.add_node("Exp", [x])
    assert graph.gradients([y], [other]) == [None]


def test_refusals_name_the_node() -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [1, 1, 8, 8])
    (y,) = graph.add_node("LpPool", [x], {"kernel_shape": [2, 2]}, name="pooling")
    with pytest.raises(NotImplementedError, match=r"pooling \(LpPool\).*no gradient"):
        graph.gradients([y], [x])
    number = graph.add_input("i", "int64", [3])
    with pytest.raises(ValueError, match="floating-point"):
        graph.gradients([y], [number])


def test_a_gradient_stated_in_python(device: Any) -> None:
    """A straight-through estimator: Round passes its gradient on."""
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [4])
    (r,) = graph.add_node("Round", [x])
    (y,) = graph.add_node("Mul", [r, r])

    def straight(g: Any, node: Any, received: list[int | None]) -> list[int | None]:
        assert node.op == "Round"
        assert g is not None
        return [received[0]]

    (dx,) = graph.gradients([y], [x], custom={"Round": straight})
    graph.add_output(dx, "dx")
    values = np.array([0.2, 1.7, -2.4, 3.0], np.float32)
    got = _run(graph, device, {"x": values})
    np.testing.assert_array_equal(got["dx"], 2 * np.rint(values))


def test_lstm_against_torch(device: Any) -> None:
    torch.manual_seed(0)
    reference = torch.nn.LSTM(3, 5)
    x = torch.randn(6, 2, 3, requires_grad=True)
    y, _ = reference(x)
    cotangent = torch.randn_like(y)
    y.backward(cotangent)
    order = [0, 3, 1, 2]  # PyTorch has i f g o, ONNX i o f g

    def gates(tensor: torch.Tensor) -> np.ndarray:
        parts = tensor.detach().numpy().reshape(4, 5, -1)
        return np.ascontiguousarray(parts[order].reshape(20, -1)[None])

    w = dict(reference.named_parameters())
    bias = np.concatenate([gates(w[f"bias_{k}_l0"])[..., 0] for k in ("ih", "hh")], 1)
    graph = _core.Graph()
    ids = {
        "x": graph.add_input("x", "float32", [6, 2, 3]),
        "w": graph.add_variable("w", gates(w["weight_ih_l0"])),
        "r": graph.add_variable("r", gates(w["weight_hh_l0"])),
        "b": graph.add_variable("b", bias),
    }
    out = graph.add_node("LSTM", list(ids.values()), {"hidden_size": 5}, 1)
    c = graph.add_input("c", "float32", [6, 1, 2, 5])
    found = graph.gradients(out, list(ids.values()), [c])
    for name, gradient in zip(ids, found, strict=True):
        graph.add_output(gradient, f"d{name}")
    feeds = {"x": x.detach().numpy(), "c": cotangent.numpy()[:, None]}
    got = _run(graph, device, feeds)
    expected = {
        "dx": x.grad.numpy(),  # type: ignore[union-attr]
        "dw": gates(w["weight_ih_l0"].grad),  # type: ignore[arg-type]
        "dr": gates(w["weight_hh_l0"].grad),  # type: ignore[arg-type]
    }
    for name, want in expected.items():
        assert np.abs(got[name] - want).max() < 1e-5 * max(1, np.abs(want).max()), name


def test_a_large_table_of_embeddings(device: Any) -> None:
    """What a step of a language model asks for: linear in the indices and in the table."""
    rng = np.random.default_rng(0)
    words, width, tokens = 30_000, 16, 4096
    at = rng.zipf(1.3, tokens) % words
    dy = rng.standard_normal((tokens, width)).astype(np.float32)
    graph = _core.Graph()
    table = graph.add_constant("table", np.zeros((words, width), np.float32))
    i = graph.add_input("i", "int64", [tokens])
    cotangent = graph.add_input("dy", "float32", [tokens, width])
    (y,) = graph.add_node("Gather", [table, i])
    graph.add_output(graph.gradients([y], [table], [cotangent])[0], "d")
    got = _run(graph, device, {"i": at, "dy": dy})["d"]
    want = torch.zeros(words, width, dtype=torch.float64)
    want.index_add_(0, torch.tensor(at), torch.tensor(dy, dtype=torch.float64))
    np.testing.assert_allclose(got, want.numpy(), atol=1e-4)


def _second(device: Any, op: str, inputs: list[np.ndarray], **attributes: Any) -> None:
    """The gradient of sum((dL/dx)^2) by c, where L = sum(c * op(x)): op is linear, so that it is
    2 * op(dL/dx)."""
    graph = _core.Graph()
    x = graph.add_input("x", "float32", list(inputs[0].shape))
    rest = [graph.add_constant(f"i{n}", a) for n, a in enumerate(inputs[1:])]
    (y,) = graph.add_node(op, [x, *rest], attributes)
    graph.add_output(y, "y")
    shape = _run(graph, device, {"x": inputs[0]})["y"].shape
    c = graph.add_input("c", "float32", list(shape))
    (first,) = graph.gradients([y], [x], [c])
    (square,) = graph.add_node("Mul", [first, first])
    (second,) = graph.gradients([square], [c])
    (want,) = graph.add_node(op, [first, *rest], attributes)
    for value, name in ((second, "second"), (want, "want")):
        graph.add_output(value, name)
    weights = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    got = _run(graph, device, {"x": inputs[0], "c": weights})
    np.testing.assert_allclose(got["second"], 2 * got["want"], rtol=1e-5, atol=1e-5)
    assert np.abs(got["want"]).max() > 0


def test_gradients_of_gradients_that_address(device: Any) -> None:
    x = np.random.default_rng(1).standard_normal((3, 4, 5)).astype(np.float32)
    _second(device, "Gather", [x, np.array([[3, 1], [-1, 3]])], axis=1)
    _second(device, "GatherND", [x, np.array([[[2], [2]], [[0], [-1]], [[1], [3]]])], batch_dims=1)
    columns = np.random.default_rng(2).standard_normal((2, 3 * 4, 12)).astype(np.float32)
    _second(device, "Col2Im", [columns, np.array([4, 5]), np.array([2, 2])])


def test_col2im_against_torch(device: Any) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 3 * 2 * 3, 4 * 4)).astype(np.float32)
    leaf = torch.tensor(x, requires_grad=True)
    options = {"dilation": (2, 1), "padding": (1, 0), "stride": (2, 1)}
    y = torch.nn.functional.fold(leaf, (8, 6), (2, 3), **options)
    cotangent = torch.tensor(rng.standard_normal(tuple(y.shape)).astype(np.float32))
    y.backward(cotangent)
    graph = _core.Graph()
    i, c = graph.add_input("x", "float32", list(x.shape)), graph.add_input("c", "float32", y.shape)
    sizes = [graph.add_constant("image", np.array([8, 6])),
             graph.add_constant("block", np.array([2, 3]))]  # fmt: skip
    (z,) = graph.add_node(
        "Col2Im", [i, *sizes], {"dilations": [2, 1], "pads": [1, 0, 1, 0], "strides": [2, 1]}
    )
    graph.add_output(z, "y")
    graph.add_output(graph.gradients([z], [i], [c])[0], "dx")
    got = _run(graph, device, {"x": x, "c": cotangent.numpy()})
    np.testing.assert_allclose(got["y"], y.detach().numpy(), rtol=1e-5, atol=1e-5)
    assert leaf.grad is not None
    np.testing.assert_array_equal(got["dx"], leaf.grad.numpy())


def test_transposed_convolutions_of_a_given_size_against_torch(device: Any) -> None:
    """`output_shape` (here what output_padding gives), SAME padding, and output_padding that the
    stride does not bound; with a batch size that only the run knows."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 4, 5, 6)).astype(np.float32)
    w = rng.standard_normal((4, 6, 3, 3)).astype(np.float32)
    b = rng.standard_normal(6).astype(np.float32)
    for attributes, options in (
        ({"strides": [2, 2], "output_shape": [10, 12]},
         {"stride": 2, "padding": 1, "output_padding": 1}),
        ({"strides": [2, 2], "auto_pad": "SAME_LOWER", "output_padding": [1, 1]},
         {"stride": 2, "padding": 1, "output_padding": 1}),
        ({"dilations": [3, 3], "output_padding": [2, 1], "pads": [1, 1, 1, 1]},
         {"dilation": 3, "output_padding": (2, 1), "padding": 1}),
    ):  # fmt: skip
        leaves = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
        y = torch.nn.functional.conv_transpose2d(*leaves, **options)  # type: ignore[arg-type]
        cotangent = rng.standard_normal(tuple(y.shape)).astype(np.float32)
        y.backward(torch.tensor(cotangent))
        graph = _core.Graph()
        ids = {
            "x": graph.add_input("x", "float32", ["N", 4, 5, 6]),
            "w": graph.add_variable("w", w), "b": graph.add_variable("b", b),
        }  # fmt: skip
        c = graph.add_input("c", "float32", ["N", *y.shape[1:]])
        (z,) = graph.add_node("ConvTranspose", list(ids.values()), attributes)
        graph.add_output(z, "y")
        found = graph.gradients([z], list(ids.values()), [c])
        for name, gradient in zip(ids, found, strict=True):
            graph.add_output(gradient, f"d{name}")
        got = _run(graph, device, {"x": x, "c": cotangent})
        np.testing.assert_allclose(got["y"], y.detach().numpy(), rtol=1e-4, atol=1e-4)
        for name, leaf in zip(ids, leaves, strict=True):
            assert leaf.grad is not None
            error = np.abs(got[f"d{name}"] - leaf.grad.numpy()).max()
            assert error < 1e-5 * float(leaf.grad.abs().max()), (attributes, name)


@pytest.mark.parametrize("size", [(10,), (3, 5)])
def test_a_convolution_before_a_mean_over_pixels(device: Any, size: tuple[int, ...]) -> None:
    """Its gradient is one number, repeated: a view whose pixels are no steps apart."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((4, 32, *size)).astype(np.float32)
    w = rng.standard_normal((6, 32, *[1] * len(size))).astype(np.float32)
    leaf = torch.tensor(x, requires_grad=True)
    convolve = torch.nn.functional.conv1d if len(size) == 1 else torch.nn.functional.conv2d
    axes = list(range(2, 2 + len(size)))
    y = convolve(leaf, torch.tensor(w)).mean(axes)
    cotangent = rng.standard_normal((4, 6)).astype(np.float32)
    y.backward(torch.tensor(cotangent))
    graph = _core.Graph()
    i, c = graph.add_input("x", "float32", list(x.shape)), graph.add_input("c", "float32", [4, 6])
    # Of a result, as in a network: its channels are innermost.
    (pooled,) = graph.add_node("MaxPool", [i], {"kernel_shape": [1] * len(size)})
    (made,) = graph.add_node("Conv", [pooled, graph.add_variable("w", w)])
    (z,) = graph.add_node(
        "ReduceMean", [made, graph.add_constant("axes", np.array(axes))], {"keepdims": 0}
    )
    graph.add_output(graph.gradients([z], [i], [c])[0], "dx")
    got = _run(graph, device, {"x": x, "c": cotangent})["dx"]
    assert leaf.grad is not None
    np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=1e-4, atol=1e-6)


def _lstm(times: int | str, dtype: str, **attributes: Any) -> tuple[Any, dict[str, int], int]:
    rng = np.random.default_rng(5)
    graph = _core.Graph()
    ids = {
        "x": graph.add_input("x", dtype, [times, 2, 3]),
        "w": graph.add_variable("w", rng.standard_normal((1, 20, 3)).astype(dtype)),
        "r": graph.add_variable("r", rng.standard_normal((1, 20, 5)).astype(dtype)),
    }
    (y,) = graph.add_node("LSTM", list(ids.values()), {"hidden_size": 5, **attributes}, 1)
    return graph, ids, y


def test_lstm_in_float64_against_torch(device: Any) -> None:
    """Bounds of float32: the devices' exp and tanh of doubles have no more digits."""
    if not device.caps["fp64"]:
        pytest.skip("no float64")
    graph, ids, y = _lstm(6, "float64")
    arrays = {v.name: np.array(v.data) for v in graph.values if v.name in ("w", "r")}
    net = torch.nn.LSTM(3, 5, bias=False, dtype=torch.float64)
    order = [0, 2, 3, 1]  # ONNX has i o f g, PyTorch i f g o
    with torch.no_grad():
        for parameter, name in ((net.weight_ih_l0, "w"), (net.weight_hh_l0, "r")):
            parameter.copy_(torch.tensor(arrays[name].reshape(4, 5, -1)[order].reshape(20, -1)))
    x = torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True)
    net(x)[0].sum().backward()
    got = _gradient(graph, device, y, ids, {"x": x.detach().numpy()})
    assert x.grad is not None
    np.testing.assert_allclose(got["dx"], x.grad.numpy(), rtol=1e-5, atol=1e-6)
    for name, parameter in (("w", net.weight_ih_l0), ("r", net.weight_hh_l0)):
        assert parameter.grad is not None
        want = parameter.grad.numpy().reshape(4, 5, -1)[[0, 3, 1, 2]].reshape(1, 20, -1)
        np.testing.assert_allclose(got[f"d{name}"], want, rtol=1e-5, atol=1e-6)


def test_what_is_unrolled_needs_a_fixed_number_of_times() -> None:
    for attributes in ({"clip": 2.0}, {"activations": ["Sigmoid", "Tanh", "Relu"]}):
        graph, ids, y = _lstm("T", "float32", **attributes)
        with pytest.raises(NotImplementedError, match="give the time axis a fixed size"):
            graph.gradients([y], [ids["w"]])
        graph, ids, y = _lstm(4, "float32", **attributes)
        assert graph.gradients([y], [ids["w"]])[0] is not None
    graph, ids, y = _lstm("T", "float32")
    assert graph.gradients([y], [ids["w"]])[0] is not None


def test_grad_of_a_file(device_id: str, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    net.initialize(0)
    graph = nn.build(net, {"x": ("N", 3)})
    path = tmp_path / "net.dlk"
    dlk.Model(graph, device_id).save(path)
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    dy = np.random.default_rng(1).standard_normal((5, 2)).astype(np.float32)
    got = dlk.grad(path, {"x": x}, {"y": dy}, device=device_id)
    state = {k: torch.tensor(v, requires_grad=True) for k, v in net.state_dict().items()}
    tx = torch.tensor(x, requires_grad=True)
    y = torch.tanh(tx @ state["0.weight"].T + state["0.bias"]) @ state["2.weight"].T
    (y + state["2.bias"]).backward(torch.tensor(dy))
    assert set(got) == {"x", *state}
    for name, tensor in {"x": tx, **state}.items():
        assert tensor.grad is not None
        np.testing.assert_allclose(got[name], tensor.grad.numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no output 'z'"):
        dlk.grad(path, {"x": x}, {"z": dy}, device=device_id)
    with pytest.raises(ValueError, match="no input or weight 'q'"):
        dlk.grad(path, {"x": x}, wrt=["q"], device=device_id)
