"""From scores to the two outputs of a classifier: the label of each row, and its scores."""

from __future__ import annotations

from collections.abc import Sequence

from .emitter import Emitter


def labels_of(e: Emitter, attribute: str) -> list[int]:
    """The labels, which must be numbers."""
    labels = e.node.attributes.get(attribute)
    if not labels:
        raise e.fail(f"has no {attribute}; labels that are texts are not supported")
    return [int(label) for label in labels]


def finish_classifier(e: Emitter, scores: str, labels: Sequence[int], transform: str) -> None:
    """Emits the label of the greatest score in each row, and the scores (rows, labels)."""
    emit_label(e, scores, labels)
    e.output(1, "Identity", e.transformed(scores, transform))


def emit_label(e: Emitter, votes: str, labels: Sequence[int]) -> None:
    """Emits the label with the most votes in each row."""
    best = e("ArgMax", votes, axis=-1, keepdims=0)
    e.output(0, "Gather", e.constant(list(labels)), best, axis=0)


def emit_chosen(e: Emitter, score: str, labels: Sequence[int], limit: float) -> None:
    """Emits the second of two labels where the score (rows, 1) is above `limit`."""
    above = e("Squeeze", e("Greater", score, e.number(limit)), e.constant([-1]))
    e.output(0, "Where", above, e.constant(labels[1]), e.constant(labels[0]))


def emit_both(e: Emitter, score: str, transform: str, *, of_one: bool) -> None:
    """Emits the scores of two labels from that of the second (rows, 1): what is missing to 1, or
    the negative one, is the first's. This is what onnxruntime does, softmax or not."""
    if transform == "LOGISTIC" or not of_one:
        both = e("Concat", e("Neg", score), score, axis=-1)
        e.output(1, "Identity", e("Sigmoid", both) if transform == "LOGISTIC" else both)
        return
    e.output(1, "Concat", e("Sub", e.number(1.0), score), score, axis=-1)
