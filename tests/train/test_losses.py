"""Losses and their gradients against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dlk import _core
from dlk.nn import arithmetic as A
from dlk.nn import losses
from dlk.nn.builder import GraphBuilder

F = torch.nn.functional
N, C = 6, 5


def _logits(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((N, C)).astype(np.float32)


def _labels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, C, N).astype(np.int32)


def _shares(rng: np.random.Generator) -> np.ndarray:
    values = rng.uniform(0.05, 0.95, (N, C))
    return (values / values.sum(1, keepdims=True)).astype(np.float32)


def _halves(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.1, 0.9, (N, C)).astype(np.float32)


def _signs(rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.uniform(size=(N, C)) < 0.5, -1, 1).astype(np.float32)


Make = Callable[[np.random.Generator], np.ndarray]
CASES: dict[str, tuple[Any, Any, Make, Make]] = {
    "cross_entropy": (
        losses.cross_entropy, lambda p, t: F.cross_entropy(p, t.long()), _logits, _labels),
    "smoothed": (
        lambda p, t: losses.cross_entropy(p, t, label_smoothing=0.1),
        lambda p, t: F.cross_entropy(p, t.long(), label_smoothing=0.1), _logits, _labels),
    "soft": (losses.soft_cross_entropy, F.cross_entropy, _logits, _shares),
    "categorical": (
        losses.categorical_cross_entropy,
        lambda p, t: -(t * torch.log(p)).sum(1).mean(), _shares, _shares),
    "nll": (losses.nll, lambda p, t: F.nll_loss(p, t.long()), _logits, _labels),
    "sigmoid": (
        losses.sigmoid_cross_entropy, F.binary_cross_entropy_with_logits, _logits, _halves),
    "binary": (losses.binary_cross_entropy, F.binary_cross_entropy, _halves, _halves),
    "log_loss": (losses.log_loss, F.binary_cross_entropy, _halves, _halves),
    "smoothed_nll": (
        lambda p, t: losses.nll(A.log_softmax(p, 1), t, label_smoothing=0.2),
        lambda p, t: F.cross_entropy(p, t.long(), label_smoothing=0.2), _logits, _labels),
    "smoothed_categorical": (
        lambda p, t: losses.categorical_cross_entropy(p, t, label_smoothing=0.2),
        lambda p, t: -((t * 0.8 + 0.2 / t.shape[1]) * torch.log(p)).sum(1).mean(),
        _shares, _shares),
    "smoothed_binary": (
        lambda p, t: losses.binary_cross_entropy(p, t, label_smoothing=0.2),
        lambda p, t: F.binary_cross_entropy(p, t * 0.8 + 0.1), _halves, _halves),
    "mse": (losses.mse, F.mse_loss, _logits, _logits),
    "mae": (losses.mae, F.l1_loss, _logits, _logits),
    "huber": (
        lambda p, t: losses.huber(p, t, delta=0.7),
        lambda p, t: F.huber_loss(p, t, delta=0.7), _logits, _logits),
    "hinge": (
        losses.hinge, lambda p, t: torch.clamp(1 - p * t, min=0).mean(), _logits, _signs),
    "cosine": (
        losses.cosine_distance,
        lambda p, t: (1 - F.cosine_similarity(p, t, dim=-1)).mean(), _logits, _logits),
    "kl": (losses.kl_divergence, lambda p, t: F.kl_div(p, t), _logits, _shares),
}  # fmt: skip


def _evaluate(
    make: Callable[..., Any], arrays: dict[str, np.ndarray], device: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The loss, and the gradient of its sum by the first array."""
    b = GraphBuilder()
    values = [b.input(n, a.shape, a.dtype.name) for n, a in arrays.items()]
    loss = make(*values)
    b.output(loss, "loss")
    (gradient,) = b.graph.gradients([loss.id], [values[0].id])
    assert gradient is not None
    b.graph.add_output(gradient, "gradient")
    got = _core.Model(b.graph, device).create_session().run(arrays)
    return got["loss"], got["gradient"]


@pytest.mark.parametrize("name", CASES)
def test_loss_follows_torch(device: Any, name: str) -> None:
    ours, theirs, make_p, make_t = CASES[name]
    rng = np.random.default_rng(7)
    p, t = make_p(rng), make_t(rng)
    loss, gradient = _evaluate(ours, {"p": p, "t": t}, device)
    tensor = torch.tensor(p, requires_grad=True)
    expected = theirs(tensor, torch.tensor(t))
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    assert tensor.grad is not None
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reduction", losses.REDUCTIONS)
def test_weights_and_reductions(device: Any, reduction: str) -> None:
    rng = np.random.default_rng(8)
    p, t = _logits(rng), _labels(rng)
    w = np.array([1, 0, 2, 0.5, 0, 1], np.float32)
    loss, _ = _evaluate(
        lambda p, t, w: losses.cross_entropy(p, t, w, reduction), {"p": p, "t": t, "w": w}, device
    )
    each = F.cross_entropy(torch.tensor(p), torch.tensor(t).long(), reduction="none").numpy() * w
    expected = {"none": each, "sum": each.sum(), "mean": each.mean(), "nonzero": each.sum() / 4}
    np.testing.assert_allclose(loss, expected[reduction], rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_samples_that_are_left_out(device: Any, smoothing: float) -> None:
    rng = np.random.default_rng(9)
    p, t = _logits(rng), _labels(rng)
    t[2] = -100
    loss, gradient = _evaluate(
        lambda p, t: losses.cross_entropy(p, t, reduction="sum", label_smoothing=smoothing),
        {"p": p, "t": t}, device,
    )  # fmt: skip
    expected = F.cross_entropy(
        torch.tensor(p), torch.tensor(t).long(), reduction="sum", label_smoothing=smoothing
    )
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    assert (gradient[2] == 0).all()


def _sequences() -> tuple[dict[str, np.ndarray], torch.Tensor]:
    """Four samples: repeated labels, a short input, no labels, all of the time."""
    rng = np.random.default_rng(11)
    logits = rng.standard_normal((12, 4, 6)).astype(np.float32)
    labels = np.array([[1, 1, 2, 5, 5], [3, 2, 1, 0, 0], [1, 1, 1, 1, 1], [4, 3, 4, 3, 4]])
    arrays = {
        "x": logits,
        "labels": np.where(labels == 0, 1, labels).astype(np.int32),
        "lengths": np.array([12, 7, 9, 12], np.int32),
        "label_lengths": np.array([5, 3, 0, 5], np.int32),
    }
    return arrays, torch.tensor(logits, requires_grad=True)


def _torch_ctc(arrays: dict[str, np.ndarray], x: torch.Tensor, **options: Any) -> torch.Tensor:
    whole = [torch.tensor(arrays[n]).long() for n in ("labels", "lengths", "label_lengths")]
    return F.ctc_loss(F.log_softmax(x, -1), *whole, **options)


def _ctc(reduction: str = "mean", **options: Any) -> Callable[..., Any]:
    def make(x: Any, labels: Any, lengths: Any, label_lengths: Any) -> Any:
        logp = A.log_softmax(x, -1)
        return losses.ctc(logp, labels, lengths, label_lengths, None, reduction, **options)

    return make


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_ctc_follows_torch(device: Any, reduction: str) -> None:
    arrays, x = _sequences()
    loss, gradient = _evaluate(_ctc(reduction), arrays, device)
    expected = _torch_ctc(arrays, x, reduction=reduction)
    expected.sum().backward()
    np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=1e-5)
    assert x.grad is not None
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_ctc_of_labels_that_do_not_fit(device: Any) -> None:
    arrays, x = _sequences()
    arrays["lengths"][0] = 6  # five labels, two of them repeated, need seven steps
    loss, _ = _evaluate(_ctc("none"), arrays, device)
    assert np.isinf(loss).tolist() == [True, False, False, False]
    loss, gradient = _evaluate(_ctc("sum", zero_infinity=True), arrays, device)
    expected = _torch_ctc(arrays, x, reduction="sum", zero_infinity=True)
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    assert x.grad is not None
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_ctc_with_another_blank(device: Any) -> None:
    arrays, x = _sequences()
    arrays["labels"] = np.minimum(arrays["labels"], 4)
    loss, _ = _evaluate(_ctc(blank=5), arrays, device)
    assert float(loss) == pytest.approx(_torch_ctc(arrays, x, blank=5).item(), rel=1e-5)
    with pytest.raises(ValueError, match="the blank is class 6 of 6"):
        _evaluate(_ctc(blank=6), arrays, device)


def test_yolo_prefers_the_truth(device: Any) -> None:
    """The loss is least where the predictions say what the targets do."""
    rng = np.random.default_rng(10)
    targets = np.zeros((2, 6, 4, 4), np.float32)
    targets[:, 0, 1, 2] = 1
    targets[:, 1:5, 1, 2] = [0.25, 0.75, -1.0, 0.5]
    targets[:, 5, 1, 2] = 2
    right = np.full((2, 8, 4, 4), 0.0, np.float32)
    right[:, 0] = -8
    right[:, 0, 1, 2] = 8
    right[:, 1:5, 1, 2] = [np.log(1 / 3), np.log(3), -1.0, 0.5]
    right[:, 7, 1, 2] = 9
    best, gradient = _evaluate(losses.yolo, {"p": right, "t": targets}, device)
    assert float(best) < 0.02
    assert np.abs(gradient).max() < 0.02
    wrong = right + rng.standard_normal(right.shape).astype(np.float32)
    worse, _ = _evaluate(losses.yolo, {"p": wrong, "t": targets}, device)
    assert float(worse) > 10 * float(best)


def test_bad_reduction() -> None:
    b = GraphBuilder()
    with pytest.raises(ValueError, match="reduction is one of"):
        losses.mse(b.input("a", (3,)), b.input("b", (3,)), reduction="total")
