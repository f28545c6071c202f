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


def finish_classifier(
    e: Emitter, scores: str, labels: Sequence[int], transform: str, votes: str = ""
) -> None:
    """Emits the label of the greatest score (or of the most `votes`) in each row, and the scores
    (rows, labels)."""
    best = e("ArgMax", votes or scores, axis=-1, keepdims=0)
    e.output(0, "Gather", e.constant(list(labels)), best, axis=0)
    e.output(1, "Identity", e.transformed(scores, transform))


def finish_binary(
    e: Emitter, score: str, labels: Sequence[int], transform: str, *, probability: bool
) -> None:
    """As above for one score a row (rows, 1) and two labels: the second is chosen above 0, or
    above 0.5 where the score is a `probability`. The first label's score is the other side."""
    limit = e.number(0.5 if probability else 0.0)
    above = e("Squeeze", e("Greater", score, limit), e.constant([-1]))
    e.output(0, "Where", above, e.constant(labels[1]), e.constant(labels[0]))
    if probability:
        e.output(1, "Concat", e("Sub", e.number(1.0), score), score, axis=-1)
        return
    both = e("Concat", e("Neg", score), score, axis=-1)
    e.output(1, "Identity", e("Sigmoid", both) if transform == "LOGISTIC" else both)
