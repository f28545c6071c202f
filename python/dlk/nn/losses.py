"""Losses on symbolic values, computed (and differentiated) on the device.

Every loss takes ``weights`` that broadcast to its samples and a ``reduction``: ``"none"`` (one
number a sample), ``"sum"``, ``"mean"`` (over the samples), or ``"nonzero"`` (the sum over the
number of samples whose weight is not 0). Definitions follow PyTorch's where both have a loss.
"""

from __future__ import annotations

import numpy as np

from . import arithmetic as A
from .builder import Value
from .functional import sigmoid

REDUCTIONS = ("none", "sum", "mean", "nonzero")


def reduce(loss: Value, weights: Value | None, reduction: str) -> Value:
    """Weights the samples' losses and reduces them."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is one of {', '.join(REDUCTIONS)}, not {reduction!r}")
    if weights is not None:
        loss = loss * weights
    if reduction == "none":
        return loss
    if reduction == "mean":
        return A.reduce_mean(loss)
    if reduction == "sum" or weights is None:
        return A.reduce_sum(loss) if reduction == "sum" else A.reduce_mean(loss)
    counted = A.cast(A.equal(weights + loss * 0.0, 0.0), loss.dtype)
    return A.reduce_sum(loss) / A.maximum(A.reduce_sum(1.0 - counted), 1.0)


def _classes(x: Value) -> int:
    count = x.shape[1] if len(x.shape) > 1 else None
    if not isinstance(count, int):
        raise ValueError(f"the number of classes must be known; the scores are {list(x.shape)}")
    return count


def _is_class(labels: Value, scores: Value) -> Value:
    """Bool (N, C, ...): where the label names the class."""
    count = _classes(scores)
    scores.builder.label_limits[labels.id] = count
    numbers = np.arange(count, dtype=labels.dtype).reshape(1, count, *[1] * (len(scores.shape) - 2))
    return A.equal(A.unsqueeze(labels, 1), scores.builder.constant(numbers, "classes"))


def nll(
    log_probabilities: Value,
    labels: Value,
    weights: Value | None = None,
    reduction: str = "mean",
    *,
    label_smoothing: float = 0.0,
) -> Value:
    """Negative log likelihood: (N, C, ...) and integer labels (N, ...). A label outside of 0 .. C-1
    counts nothing.

    With ``label_smoothing`` s the target is (1 - s) at the label plus s / C everywhere.
    """
    named = _is_class(labels, log_probabilities)
    loss = -A.reduce_sum(A.where(named, log_probabilities, 0.0), 1)
    if label_smoothing:
        counts = A.reduce_sum(A.cast(named, log_probabilities.dtype), 1)
        even = A.reduce_mean(log_probabilities, 1) * counts
        loss = loss * (1.0 - label_smoothing) - even * label_smoothing
    return reduce(loss, weights, reduction)


def cross_entropy(
    logits: Value,
    labels: Value,
    weights: Value | None = None,
    reduction: str = "mean",
    *,
    label_smoothing: float = 0.0,
) -> Value:
    """Softmax cross-entropy of logits (N, C, ...) with integer labels (N, ...).

    With ``label_smoothing`` s the target is (1 - s) at the label plus s / C everywhere.
    """
    if label_smoothing:
        logp = A.log_softmax(logits, 1)
        return nll(logp, labels, weights, reduction, label_smoothing=label_smoothing)
    b = logits.builder
    b.label_limits[labels.id] = _classes(logits)
    loss = b.op("CrossEntropy", [logits, labels], labels.shape, dtype=logits.dtype, domain="dlk")
    return reduce(loss, weights, reduction)


def soft_cross_entropy(
    logits: Value,
    targets: Value,
    weights: Value | None = None,
    reduction: str = "mean",
    *,
    label_smoothing: float = 0.0,
) -> Value:
    """Softmax cross-entropy of logits (N, C, ...) with target probabilities of the same shape."""
    if label_smoothing:
        targets = targets * (1.0 - label_smoothing) + label_smoothing / _classes(logits)
    loss = -A.reduce_sum(targets * A.log_softmax(logits, 1), 1)
    return reduce(loss, weights, reduction)


def categorical_cross_entropy(
    probabilities: Value,
    targets: Value,
    weights: Value | None = None,
    reduction: str = "mean",
    *,
    epsilon: float = 1e-7,
    label_smoothing: float = 0.0,
) -> Value:
    """Cross-entropy of probabilities (N, C, ...) with target probabilities of the same shape."""
    if label_smoothing:
        targets = targets * (1.0 - label_smoothing) + label_smoothing / _classes(probabilities)
    safe = A.maximum(probabilities, epsilon)
    return reduce(-A.reduce_sum(targets * A.log(safe), 1), weights, reduction)


def sigmoid_cross_entropy(
    logits: Value,
    targets: Value,
    weights: Value | None = None,
    reduction: str = "mean",
    *,
    label_smoothing: float = 0.0,
) -> Value:
    """Binary cross-entropy of logits, element by element; targets in 0 .. 1."""
    if label_smoothing:
        targets = targets * (1.0 - label_smoothing) + 0.5 * label_smoothing
    return reduce(A.softplus(logits) - logits * targets, weights, reduction)


def binary_cross_entropy(
    probabilities: Value,
    targets: Value,
    weights: Value | None = None,
    reduction: str = "mean",
    *,
    epsilon: float = 1e-7,
    label_smoothing: float = 0.0,
) -> Value:
    """Binary cross-entropy of probabilities, element by element."""
    return log_loss(
        probabilities, targets, weights, reduction, epsilon=epsilon, label_smoothing=label_smoothing
    )


def log_loss(
    probabilities: Value,
    targets: Value,
    weights: Value | None = None,
    reduction: str = "mean",
    *,
    epsilon: float = 1e-7,
    label_smoothing: float = 0.0,
) -> Value:
    """-t log(p + e) - (1 - t) log(1 - p + e), element by element."""
    if label_smoothing:
        targets = targets * (1.0 - label_smoothing) + 0.5 * label_smoothing
    yes = targets * A.log(probabilities + epsilon)
    no = (1.0 - targets) * A.log(1.0 - probabilities + epsilon)
    return reduce(-(yes + no), weights, reduction)


def mse(
    predictions: Value, targets: Value, weights: Value | None = None, reduction: str = "mean"
) -> Value:
    """Squared error, element by element."""
    return reduce(A.square(predictions - targets), weights, reduction)


def mae(
    predictions: Value, targets: Value, weights: Value | None = None, reduction: str = "mean"
) -> Value:
    """Absolute error, element by element."""
    return reduce(A.absolute(predictions - targets), weights, reduction)


def huber(
    predictions: Value,
    targets: Value,
    weights: Value | None = None,
    reduction: str = "mean",
    *,
    delta: float = 1.0,
) -> Value:
    """Quadratic up to `delta`, linear beyond, element by element."""
    error = A.absolute(predictions - targets)
    near = A.minimum(error, delta)
    return reduce(0.5 * A.square(near) + delta * (error - near), weights, reduction)


def hinge(
    predictions: Value, targets: Value, weights: Value | None = None, reduction: str = "mean"
) -> Value:
    """max(0, 1 - t p) for targets -1 and 1, element by element."""
    return reduce(A.maximum(1.0 - predictions * targets, 0.0), weights, reduction)


def cosine_distance(
    predictions: Value,
    targets: Value,
    weights: Value | None = None,
    reduction: str = "mean",
    *,
    axis: int = -1,
    epsilon: float = 1e-8,
) -> Value:
    """1 - cos of the angle between vectors along an axis."""
    dot = A.reduce_sum(predictions * targets, axis)
    squares = A.reduce_sum(A.square(predictions), axis) * A.reduce_sum(A.square(targets), axis)
    return reduce(1.0 - dot / A.sqrt(A.maximum(squares, epsilon**2)), weights, reduction)


def kl_divergence(
    log_probabilities: Value,
    targets: Value,
    weights: Value | None = None,
    reduction: str = "mean",
    *,
    epsilon: float = 1e-12,
) -> Value:
    """t (log t - log p), element by element; targets are probabilities."""
    log_targets = A.log(A.maximum(targets, epsilon))
    return reduce(targets * (log_targets - log_probabilities), weights, reduction)


def ctc(
    log_probabilities: Value,
    labels: Value,
    input_lengths: Value,
    label_lengths: Value,
    weights: Value | None = None,
    reduction: str = "mean",
    *,
    blank: int = 0,
    zero_infinity: bool = False,
) -> Value:
    """Connectionist temporal classification of sequences (T, N, C) with label sequences (N, L).

    Labels and lengths (N) are int32; what is beyond a sequence's length counts nothing. ``"mean"``
    divides each loss by its number of labels first, as PyTorch does. A label sequence that does not
    fit its input has an infinite loss, or with `zero_infinity` none. Graves et al. (2006).
    """
    if blank < 0 or blank >= _last(log_probabilities):
        raise ValueError(f"the blank is class {blank} of {_last(log_probabilities)}")
    b = log_probabilities.builder
    inputs = [log_probabilities, labels, input_lengths, label_lengths]
    b.label_limits[labels.id] = _last(log_probabilities)
    shape = (log_probabilities.shape[1],)
    loss = b.op("CTCLoss", inputs, shape, {"blank": blank}, domain="dlk")
    if zero_infinity:
        loss = A.where(A.less(loss, 1e30), loss, 0.0)
    if reduction == "mean":
        loss = loss / A.maximum(A.cast(label_lengths, loss.dtype), 1.0)
    return reduce(loss, weights, reduction)


def _last(x: Value) -> int:
    count = x.shape[-1]
    if len(x.shape) != 3 or not isinstance(count, int):
        raise ValueError(f"ctc needs (T, N, C) with a known number of classes: {list(x.shape)}")
    return count


def yolo(
    predictions: Value,
    targets: Value,
    *,
    box_weight: float = 5.0,
    empty_weight: float = 0.5,
) -> Value:
    """Detection on a grid: objectness, box and class, summed over cells and averaged over images.

    Predictions (N, 5 + C, H, W): logit of objectness, box (4: offsets in the cell as logits, log of
    width and height), class logits. Targets (N, 6, H, W): 1 where a cell holds an object, the box
    as (x, y in 0 .. 1, log w, log h), and the class number. Redmon et al., "You Only Look Once"
    (2016), with cross-entropies in place of the squared errors of objectness and class.
    """
    classes = _classes(predictions) - 5
    if classes < 1:
        raise ValueError(f"yolo needs 5 + C channels, got {list(predictions.shape)}")
    holds = A.slice_axis(targets, 1, 0, 1)
    objectness = sigmoid_cross_entropy(
        A.slice_axis(predictions, 1, 0, 1), holds, holds + empty_weight * (1.0 - holds), "none"
    )
    offsets = sigmoid(A.slice_axis(predictions, 1, 1, 3)) - A.slice_axis(targets, 1, 1, 3)
    sizes = A.slice_axis(predictions, 1, 3, 5) - A.slice_axis(targets, 1, 3, 5)
    box = (A.square(offsets) + A.square(sizes)) * (box_weight * holds)
    logits = A.slice_axis(predictions, 1, 5, 5 + classes)
    labels = A.cast(A.slice_axis(targets, 1, 5, 6), "int32")
    numbers = np.arange(classes, dtype=np.int32).reshape(1, classes, 1, 1)
    chosen = A.equal(labels, predictions.builder.constant(numbers, "classes"))
    kinds = A.where(chosen, A.log_softmax(logits, 1), 0.0) * (-1.0 * holds)
    cells = A.reduce_sum(objectness, 1) + A.reduce_sum(box, 1) + A.reduce_sum(kinds, 1)
    return A.reduce_mean(A.reduce_sum(cells, [1, 2]))


def accuracy(scores: Value, labels: Value) -> Value:
    """Share of samples whose greatest score (N, C) is at the label (N). No gradient."""
    hit = A.equal(A.cast(A.argmax(scores, 1), labels.dtype), labels)
    return A.reduce_mean(A.cast(hit, "float32"))


__all__ = [
    "accuracy",
    "binary_cross_entropy",
    "categorical_cross_entropy",
    "cosine_distance",
    "cross_entropy",
    "ctc",
    "hinge",
    "huber",
    "kl_divergence",
    "log_loss",
    "mae",
    "mse",
    "nll",
    "reduce",
    "sigmoid_cross_entropy",
    "soft_cross_entropy",
    "yolo",
]
