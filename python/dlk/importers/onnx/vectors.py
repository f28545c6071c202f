"""Linear models and support vector machines by tensor operators."""

from __future__ import annotations

import numpy as np

from .emitter import Emitter
from .labels import emit_both, emit_chosen, emit_label, finish_classifier, labels_of


def _rows(e: Emitter, attribute: str, rows: int) -> np.ndarray:
    values = np.array(e.node.attributes.get(attribute, []), np.float32)
    if rows < 1 or values.size == 0 or values.size % rows:
        raise e.fail(f"{attribute} has {values.size} values, which are not {rows} rows")
    return values.reshape(rows, -1)


def _linear(e: Emitter, weights: np.ndarray, biases: str) -> str:
    """x @ weights.T + biases."""
    y = e("MatMul", e.floats(), e.constant(weights.T.copy(), "float32"))
    values = e.node.attributes.get(biases)
    return e("Add", y, e.constant(values, "float32")) if values else y


def linear_regressor(e: Emitter) -> None:
    a = e.node.attributes
    y = _linear(e, _rows(e, "coefficients", int(a.get("targets", 1))), "intercepts")
    e.finish("Identity", e.transformed(y, a.get("post_transform", "NONE")))


def linear_classifier(e: Emitter) -> None:
    a = e.node.attributes
    labels = labels_of(e, "classlabels_ints")
    transform = a.get("post_transform", "NONE")
    rows = max(1, len(a.get("intercepts", [])))
    y = _linear(e, _rows(e, "coefficients", rows), "intercepts")
    if rows == 1 and len(labels) == 2:
        emit_chosen(e, y, labels, 0.0)
        emit_both(e, y, transform, of_one=True)
    elif rows == len(labels):
        finish_classifier(e, y, labels, transform)
    else:
        raise e.fail(f"has {rows} intercepts for {len(labels)} labels")


def _kernel(e: Emitter, vectors: np.ndarray) -> str:
    """K(x, v) of each row and vector (rows, vectors)."""
    a, x = e.node.attributes, e.floats()
    kind = a.get("kernel_type", "LINEAR")
    gamma, offset, degree = ([*a.get("kernel_params", []), 0.0, 0.0, 0.0])[:3]
    if kind == "RBF":
        # |x - v|^2, in this form without cancellation
        wide = e("Unsqueeze", x, e.constant([1]))
        apart = e("Sub", wide, e.constant(vectors, "float32"))
        square = e("ReduceSumSquare", apart, e.constant([-1]), keepdims=0)
        return e("Exp", e("Mul", square, e.number(-gamma)))
    y = e("MatMul", x, e.constant(vectors.T.copy(), "float32"))
    if kind == "LINEAR":
        return y
    y = e("Add", e("Mul", y, e.number(gamma)), e.number(offset))
    if kind == "POLY":
        return e("Pow", y, e.number(degree))
    if kind == "SIGMOID":
        return e("Tanh", y)
    raise e.fail(f"kernel_type {kind} is not one of LINEAR, POLY, RBF, SIGMOID")


def svm_regressor(e: Emitter) -> None:
    a = e.node.attributes
    supports = int(a.get("n_supports", 0))
    if supports > 0:
        y = _kernel(e, _rows(e, "support_vectors", supports))
        weights = _rows(e, "coefficients", 1)
        if weights.shape[1] != supports:
            raise e.fail(f"has {weights.shape[1]} coefficients for {supports} support vectors")
    else:
        weights, y = _rows(e, "coefficients", 1), e.floats()
    y = e("MatMul", y, e.constant(weights.T.copy(), "float32"))
    y = e("Add", y, e.constant([*a.get("rho", []), 0.0][:1], "float32"))
    if a.get("one_class", 0):
        above = e("Greater", y, e.number(0.0))
        y = e("Where", above, e.number(1.0), e.number(-1.0))
    e.finish("Identity", e.transformed(y, a.get("post_transform", "NONE")))


def svm_classifier(e: Emitter) -> None:
    a = e.node.attributes
    labels = labels_of(e, "classlabels_ints")
    if a.get("prob_a"):
        raise e.fail("estimates probabilities (prob_a), which is not supported")
    counts = [int(n) for n in a.get("vectors_per_class", [])]
    total = sum(counts)
    if total == 0 or min(counts) < 0 or len(counts) != len(labels) or len(labels) < 2:
        raise e.fail("needs vectors_per_class, one number a label, for two labels or more")
    kernel = _kernel(e, _rows(e, "support_vectors", total))
    coefficients = _rows(e, "coefficients", len(labels) - 1)
    pairs = [(i, j) for i in range(len(labels)) for j in range(i + 1, len(labels))]
    rho = np.array(a.get("rho", []), np.float32)
    if coefficients.shape[1] != total or len(rho) != len(pairs):
        raise e.fail("its coefficients or rho do not fit its vectors and pairs of labels")
    starts = np.cumsum([0, *counts])
    weights = e.table((total, len(pairs)), 0.0, np.float32)
    chooses = e.table((2, len(pairs), len(labels)), 0.0, np.float32)
    for p, (i, j) in enumerate(pairs):  # one machine a pair, which votes for one of it
        own, other = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        weights[own, p] = coefficients[j - 1, own]
        weights[other, p] = coefficients[i, other]
        chooses[0, p, j] = chooses[1, p, i] = 1
    scores = e("MatMul", kernel, e.constant(weights, "float32"))
    scores = e("Add", scores, e.constant(rho, "float32"))
    above = e("Cast", e("Greater", scores, e.number(0.0)), to="float32")
    first = e("MatMul", above, e.constant(chooses[1] - chooses[0], "float32"))
    votes = e("Add", first, e.constant(chooses[0].sum(0), "float32"))
    emit_label(e, votes, labels)
    transform = a.get("post_transform", "NONE")
    if len(labels) == 2:
        emit_both(e, scores, transform, of_one=transform != "NONE")
    else:
        e.output(1, "Identity", e.transformed(scores, transform))
