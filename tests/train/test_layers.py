"""Recurrent and normalizing layers in training, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from dlk import _core, nn

from ..subprocesses import run_python
from .common import state_of


def _both(
    ours: nn.Module, theirs: torch.nn.Module, device: Any, x: np.ndarray, **more: np.ndarray
) -> None:
    """The results, and the gradients of a weighted sum of them by input and weights."""
    ours.load_state_dict(state_of(theirs))
    for name, parameter in ours.named_parameters():
        parameter.name = name
    b = nn.GraphBuilder(trainable=True, training=True)
    inputs = [b.input("x", x.shape), *[b.input(n, a.shape, a.dtype.name) for n, a in more.items()]]
    lengths = next((v for v in inputs if v.dtype == "int32"), None)
    given = [v for v in inputs if v is not lengths]
    made = ours.forward(*given, **({} if lengths is None else {"lengths": lengths}))
    results = list(made) if isinstance(made, tuple) else [made]
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, *more.values()) if a.dtype != "i4"]
    expected = _torch_results(theirs, tensors, more.get("lengths"))
    rng = np.random.default_rng(3)
    weights = [rng.standard_normal(tuple(r.shape)).astype(np.float32) for r in expected]
    total = sum((r * torch.tensor(w)).sum() for r, w in zip(expected, weights, strict=True))
    parameters = list(ours.named_parameters())
    wrt = [given[0].id, *[b.parameter(p).id for _, p in parameters]]
    ids = [b.graph.add_constant(f"weight{i}", w) for i, w in enumerate(weights)]
    found = b.graph.gradients([r.id for r in results], wrt, ids)
    for i, result in enumerate(results):
        b.output(result, f"y{i}")
    for name, gradient in zip(["x", *[n for n, _ in parameters]], found, strict=True):
        assert gradient is not None, name
        b.graph.add_output(gradient, f"d {name}")
    got = _core.Model(b.graph, device).create_session().run({"x": x, **more})
    assert isinstance(total, torch.Tensor)
    total.backward()
    for i, want in enumerate(expected):
        np.testing.assert_allclose(got[f"y{i}"], want.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert tensors[0].grad is not None
    wanted = {"x": tensors[0].grad, **{n: p.grad for n, p in theirs.named_parameters()}}
    for name, gradient in wanted.items():
        assert gradient is not None
        scale = float(gradient.abs().max())
        np.testing.assert_allclose(
            got[f"d {name}"], gradient.numpy(), rtol=1e-3, atol=1e-5 * max(scale, 1), err_msg=name
        )


def _torch_results(
    net: torch.nn.Module, tensors: list[torch.Tensor], lengths: np.ndarray | None
) -> list[torch.Tensor]:
    x, *state = tensors
    if not isinstance(net, torch.nn.RNNBase):
        return [net(x)]
    first: Any = None if not state else state[0] if len(state) == 1 else tuple(state)
    if lengths is None:
        y, last = net(x, first)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.tensor(lengths).long(), enforce_sorted=False
        )
        out, last = net(packed, first)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(out, total_length=len(x))
    return [y, *last] if isinstance(last, tuple) else [y, last]


KINDS = {"LSTM": (nn.LSTM, torch.nn.LSTM), "GRU": (nn.GRU, torch.nn.GRU),
         "RNN": (nn.RNN, torch.nn.RNN)}  # fmt: skip


@pytest.mark.parametrize("both", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_layers(device: Any, kind: str, both: bool) -> None:
    ours, theirs = KINDS[kind]
    torch.manual_seed(4)
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    _both(ours(4, 6, bidirectional=both), theirs(4, 6, bidirectional=both), device, x)


def test_lstm_with_first_states_and_many_units(device: Any) -> None:
    torch.manual_seed(5)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 3, 5)).astype(np.float32)
    h, c = (rng.standard_normal((1, 3, 40)).astype(np.float32) for _ in range(2))
    _both(nn.LSTM(5, 40), torch.nn.LSTM(5, 40), device, x, h=h, c=c)


def test_lstm_of_one_step(device: Any) -> None:
    torch.manual_seed(6)
    x = np.random.default_rng(1).standard_normal((1, 2, 5)).astype(np.float32)
    _both(nn.LSTM(5, 7), torch.nn.LSTM(5, 7), device, x)


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_recurrent_layers_with_first_states_and_many_units(device: Any, kind: str) -> None:
    ours, theirs = KINDS[kind]
    torch.manual_seed(5)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 3, 5)).astype(np.float32)
    h = rng.standard_normal((2, 3, 40)).astype(np.float32)
    net = (ours(5, 40, bidirectional=True), theirs(5, 40, bidirectional=True))
    _both(*net, device, x, h=h)


@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_layers_run_as_kernels(kind: str) -> None:
    """The gradient has a fixed number of nodes, however long the sequence is."""
    counts = []
    for times in (3, 30):
        net = KINDS[kind][0](4, 6)
        net.initialize(0)
        b = nn.GraphBuilder(trainable=True, training=True)
        x, lengths = b.input("x", (times, 2, 4)), b.input("lengths", (2,), "int32")
        y, *_ = net.forward(x, lengths=lengths)
        b.graph.gradients([nn.arithmetic.reduce_sum(y).id], [x.id])
        counts.append(len(b.graph.nodes))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("kind", KINDS)
def test_lengths(device: Any, kind: str) -> None:
    ours, theirs = KINDS[kind]
    torch.manual_seed(7)
    x = np.random.default_rng(2).standard_normal((6, 3, 4)).astype(np.float32)
    lengths = np.array([6, 2, 4], np.int32)
    net = (ours(4, 5, bidirectional=True), theirs(4, 5, bidirectional=True))
    _both(*net, device, x, lengths=lengths)


def test_group_and_instance_normalization(device: Any) -> None:
    x = np.random.default_rng(3).standard_normal((2, 6, 4, 5)).astype(np.float32)
    for ours, theirs in (
        (nn.GroupNorm(3, 6), torch.nn.GroupNorm(3, 6)),
        (nn.InstanceNorm2d(6), torch.nn.InstanceNorm2d(6, affine=True)),
    ):
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        _both(ours, theirs, device, x)
    with pytest.raises(ValueError, match="do not divide"):
        nn.GroupNorm(4, 6)


@pytest.mark.parametrize("way", ["unfold", "fold"])
@pytest.mark.parametrize("window", [((3, 2), 1, 0, 1), ((2, 3), (2, 3), (1, 0), 1), (3, 2, 2, 2)])
def test_images_and_matrices(device: Any, way: str, window: Any) -> None:
    """A result and its gradient, for a batch of any size."""
    f, size = torch.nn.functional, (9, 8)
    kernel, stride, padding, dilation = window
    rng = np.random.default_rng(7)
    image = rng.standard_normal((2, 3, *size)).astype(np.float32)
    columns = f.unfold(torch.tensor(image), kernel, dilation, padding, stride).numpy()
    x = image if way == "unfold" else columns
    tensor = torch.tensor(x, requires_grad=True)
    b = nn.GraphBuilder(trainable=True, training=True)
    given = b.input("x", ("N", *x.shape[1:]))
    if way == "unfold":
        expected = f.unfold(tensor, kernel, dilation, padding, stride)
        made = nn.unfold(given, kernel, stride, padding, dilation)
    else:
        expected = f.fold(tensor, size, kernel, dilation, padding, stride)
        made = nn.fold(given, size, kernel, stride, padding, dilation)
    assert made.shape == ("N", *expected.shape[1:])
    weight = rng.standard_normal(expected.shape).astype(np.float32)
    (gradient,) = b.graph.gradients([made.id], [given.id], [b.graph.add_constant("weight", weight)])
    assert gradient is not None
    b.output(made, "y")
    b.graph.add_output(gradient, "dx")
    got = _core.Model(b.graph, device).create_session().run({"x": x})
    (expected * torch.tensor(weight)).sum().backward()
    assert tensor.grad is not None
    np.testing.assert_allclose(got["y"], expected.detach().numpy(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got["dx"], tensor.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_a_matrix_that_is_no_image() -> None:
    b = nn.GraphBuilder()
    with pytest.raises(ValueError, match="is no image 9x8"):
        nn.fold(b.input("x", (2, 12, 5)), (9, 8), 2)
    with pytest.raises(ValueError, match="must be known"):
        nn.unfold(b.input("image", (1, 3, "H", 8)), 2)


def test_the_kernels_of_gpus(device_id: str) -> None:
    """A process opens a device once: the tests above again, with the kernels that GPUs get."""
    done = run_python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__,
        "-k", "lstm or recurrent or lengths",
        timeout=600, DLK_KERNEL_SHAPES="gpu", DLK_TEST_DEVICES=device_id,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
