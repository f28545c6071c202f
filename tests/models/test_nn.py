"""Layers of dlk.nn against torch.nn, and what building says about mistakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dlk import nn

from .common import relative_error, run

RNG = np.random.default_rng(11)
Pair = Callable[[], tuple[nn.Module, torch.nn.Module]]

LAYERS: dict[str, tuple[Pair, tuple[int, ...]]] = {
    "conv2d": (
        lambda: (
            nn.Conv2d(6, 8, (3, 5), (2, 1), (1, 2), (1, 2), groups=2),
            torch.nn.Conv2d(6, 8, (3, 5), (2, 1), (1, 2), (1, 2), groups=2),
        ),
        (2, 6, 9, 11),
    ),
    "conv1d": (
        lambda: (nn.Conv1d(3, 4, 5, 2, 1), torch.nn.Conv1d(3, 4, 5, 2, 1)),
        (2, 3, 17),
    ),
    "conv_transpose2d": (
        lambda: (
            nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2),
            torch.nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2),
        ),
        (2, 4, 5, 6),
    ),
    "linear": (lambda: (nn.Linear(7, 5), torch.nn.Linear(7, 5)), (3, 7)),
    "linear_of_sequences": (lambda: (nn.Linear(7, 5), torch.nn.Linear(7, 5)), (2, 3, 7)),
    "linear_without_bias": (
        lambda: (nn.Linear(7, 5, bias=False), torch.nn.Linear(7, 5, bias=False)),
        (3, 7),
    ),
    "batch_norm": (
        lambda: (nn.BatchNorm2d(3, 1e-3), torch.nn.BatchNorm2d(3, 1e-3)),
        (2, 3, 4, 5),
    ),
    "layer_norm": (lambda: (nn.LayerNorm(6), torch.nn.LayerNorm(6)), (2, 3, 6)),
    "layer_norm_of_two_axes": (
        lambda: (nn.LayerNorm((3, 6)), torch.nn.LayerNorm((3, 6))),
        (2, 3, 6),
    ),
    "prelu": (lambda: (nn.PReLU(3), torch.nn.PReLU(3)), (2, 3, 4, 4)),
    "prelu_of_one": (lambda: (nn.PReLU(), torch.nn.PReLU()), (2, 3, 4)),
    "relu": (lambda: (nn.ReLU(), torch.nn.ReLU()), (2, 5)),
    "relu6": (lambda: (nn.ReLU6(), torch.nn.ReLU6()), (2, 50)),
    "leaky_relu": (lambda: (nn.LeakyReLU(0.2), torch.nn.LeakyReLU(0.2)), (2, 5)),
    "sigmoid": (lambda: (nn.Sigmoid(), torch.nn.Sigmoid()), (2, 5)),
    "tanh": (lambda: (nn.Tanh(), torch.nn.Tanh()), (2, 5)),
    "silu": (lambda: (nn.SiLU(), torch.nn.SiLU()), (2, 5)),
    "gelu": (lambda: (nn.GELU(), torch.nn.GELU()), (2, 5)),
    "gelu_tanh": (lambda: (nn.GELU("tanh"), torch.nn.GELU("tanh")), (2, 5)),
    "hardswish": (lambda: (nn.Hardswish(), torch.nn.Hardswish()), (2, 50)),
    "softmax": (lambda: (nn.Softmax(1), torch.nn.Softmax(1)), (2, 5, 3)),
    "max_pool": (
        lambda: (nn.MaxPool2d(3, 2, 1, True), torch.nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
        (2, 3, 8, 9),
    ),
    "avg_pool": (
        lambda: (nn.AvgPool2d(3, 2, 1), torch.nn.AvgPool2d(3, 2, 1)),
        (2, 3, 8, 9),
    ),
    "avg_pool_without_padding": (
        lambda: (
            nn.AvgPool2d((3, 2), 2, (1, 0), False, False),
            torch.nn.AvgPool2d((3, 2), 2, (1, 0), count_include_pad=False),
        ),
        (2, 3, 8, 9),
    ),
    "adaptive_pool": (
        lambda: (nn.AdaptiveAvgPool2d((2, 3)), torch.nn.AdaptiveAvgPool2d((2, 3))),
        (2, 3, 8, 9),
    ),
    "local_response_norm": (
        lambda: (
            nn.LocalResponseNorm(5, 1e-2, 0.7, 2.0),
            torch.nn.LocalResponseNorm(5, 1e-2, 0.7, 2.0),
        ),
        (2, 7, 4, 4),
    ),
    "flatten": (lambda: (nn.Flatten(), torch.nn.Flatten()), (2, 3, 4)),
    "dropout": (lambda: (nn.Dropout(), torch.nn.Dropout()), (2, 3)),
}


def symbolic(shape: tuple[int, ...]) -> tuple[Any, ...]:
    return ("N", *shape[1:])


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layer(name: str, device: Any) -> None:
    make, shape = LAYERS[name]
    ours, theirs = make()
    theirs = theirs.eval()
    state = {
        key: torch.from_numpy(RNG.uniform(0.2, 1.0, tuple(t.shape)).astype(np.float32))
        for key, t in theirs.state_dict().items()
        if t.is_floating_point()
    }
    theirs.load_state_dict(state, strict=False)
    ours.load_state_dict({key: t.numpy() for key, t in state.items()})
    x = (3 * RNG.standard_normal(shape)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x)).numpy()
    graph = nn.build(ours, {"x": symbolic(shape)})
    result = run(graph, device, {"x": x})["y"]
    assert relative_error(result, expected) < 1e-5


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_lstm(batch_first: bool, with_state: bool, device: Any) -> None:
    ours, theirs = nn.LSTM(5, 4, batch_first), torch.nn.LSTM(5, 4, batch_first=batch_first)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    shape = (2, 6, 5) if batch_first else (6, 2, 5)
    feeds = {"x": RNG.standard_normal(shape).astype(np.float32)}
    if with_state:
        feeds |= {k: RNG.standard_normal((1, 2, 4)).astype(np.float32) for k in ("h", "c")}
    tensors = [torch.from_numpy(v) for v in feeds.values()]
    with torch.no_grad():
        y, (h, c) = theirs(tensors[0], tuple(tensors[1:]) if with_state else None)
    graph = nn.build(ours, {k: v.shape for k, v in feeds.items()}, ["y", "hn", "cn"])
    results = run(graph, device, feeds)
    for name, expected in {"y": y, "hn": h, "cn": c}.items():
        assert relative_error(results[name], expected.numpy()) < 1e-5


def test_embedding(device: Any) -> None:
    builder = nn.GraphBuilder()
    table = nn.Embedding(10, 3)
    table.initialize(seed=1)
    index = builder.input("i", ("N", 4), "int64")
    builder.output(table(index), "y")
    i = np.array([[0, 9, 3, 3]])
    result = run(builder.graph, device, {"i": i})["y"]
    np.testing.assert_array_equal(result, table.state_dict()["weight"][i])


class Arithmetic(nn.Module):
    """Operators of values, with numbers on both sides."""

    def forward(self, *inputs: nn.Value) -> nn.Value:
        x, y = inputs
        mixed = (2.0 * x + y - 1.0) / (4.0 - y * 0.5)
        parts = nn.concat([mixed, -mixed, x], axis=1)
        return nn.transpose(nn.reshape(parts, (0, 3, -1)), (0, 2, 1))


def test_arithmetic(device: Any) -> None:
    x, y = (RNG.standard_normal((2, 6)).astype(np.float32) for _ in range(2))
    graph = nn.build(Arithmetic(), {"x": ("N", 6), "y": ("N", 6)})
    mixed = (2 * x + y - 1) / (4 - y * 0.5)
    expected = np.concatenate([mixed, -mixed, x], 1).reshape(2, 3, 6).transpose(0, 2, 1)
    assert relative_error(run(graph, device, {"x": x, "y": y})["y"], expected) < 1e-5


def test_names_and_counts() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), head=nn.Linear(4, 2))
    names = [name for name, _ in net.named_parameters()]
    assert names[:2] == ["0.weight", "0.bias"]
    assert names[-2:] == ["head.weight", "head.bias"]
    assert "1.running_var" in names
    assert net.parameter_count() == 4 * 3 * 9 + 4 + 8 + 8 + 2
    assert len(net) == 3


def test_state_dicts_are_checked() -> None:
    net = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="has no value; call initialize"):
        net.state_dict()
    with pytest.raises(ValueError, match="has no value"):
        nn.build(net, {"x": (1, 3)})
    with pytest.raises(ValueError, match=r"shape \[2, 3\], but the state dict has \[3, 2\]"):
        net.load_state_dict({"weight": np.zeros((3, 2)), "bias": np.zeros(2)})
    with pytest.raises(ValueError, match="missing bias, unknown extra"):
        net.load_state_dict({"weight": np.zeros((2, 3)), "extra": np.zeros(2)})
    net.load_state_dict({"weight": np.ones((2, 3))}, strict=False)
    assert net.weight.value is not None
    assert net.bias is not None
    assert net.bias.value is None


def test_mistakes_are_explained() -> None:
    conv, linear = nn.Conv2d(3, 4, 3), nn.Linear(5, 2)
    for module in (conv, linear):
        module.initialize()
    with pytest.raises(ValueError, match="3 channels got"):
        nn.build(conv, {"x": (1, 2, 8, 8)})
    with pytest.raises(ValueError, match="does not fit"):
        nn.build(conv, {"x": (1, 3, 2, 8)})
    with pytest.raises(ValueError, match="5 features got"):
        nn.build(linear, {"x": ("N", 4)})
    with pytest.raises(ValueError, match="cannot be broadcast"):
        nn.build(Arithmetic(), {"x": ("N", 6), "y": ("N", 5)})
    with pytest.raises(ValueError, match="2 are named"):
        nn.build(linear, {"x": ("N", 5)}, ["a", "b"])
    with pytest.raises(ValueError, match="do not divide"):
        nn.Conv2d(3, 4, 3, groups=2)
