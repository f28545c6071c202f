"""Operators of the domain ai.onnx.ml, and TfIdfVectorizer, by tensor operators.

Each adapter emits what replaces the node. Trees are in `trees.py`, linear models and support
vectors in `vectors.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .adapters import Context
from .emitter import Emitter
from .node import Node
from .trees import tree_classifier, tree_ensemble, tree_regressor
from .vectors import linear_classifier, linear_regressor, svm_classifier, svm_regressor

DOMAIN = "ai.onnx.ml"
_LAST = np.iinfo(np.int64).max
MAX_SKIPS = 1024  # of n-grams


def _array_feature_extractor(e: Emitter) -> None:
    index = e("Reshape", e.node.inputs[1], e.constant([-1]))
    e.finish("Gather", e.node.inputs[0], index, axis=-1)


def _binarizer(e: Emitter) -> None:
    x, dtype = e.node.inputs[0], e.context.dtype(e.node.inputs[0])
    above = e("Greater", x, e.constant(e.node.attributes.get("threshold", 0.0), dtype))
    e.finish("Cast", above, to=dtype)


def _scaler(e: Emitter) -> None:
    offset = e.constant(e.node.attributes.get("offset", [0.0]), "float32")
    scale = e.constant(e.node.attributes.get("scale", [1.0]), "float32")
    e.finish("Mul", e("Sub", e.floats(), offset), scale)


def _normalizer(e: Emitter) -> None:
    norm = e.node.attributes.get("norm", "MAX")
    x = e.floats()
    reductions = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}
    if norm not in reductions:
        raise e.fail(f"norm is MAX, L1 or L2, not {norm}")
    size = e(reductions[norm], x, e.constant([-1]), keepdims=1)
    e.finish("Div", x, size)


def _imputer(e: Emitter) -> None:
    attributes, x = e.node.attributes, e.node.inputs[0]
    dtype = e.context.dtype(x)
    if dtype.startswith("float"):
        wanted = attributes.get("replaced_value_float", 0.0)
        new = e.constant(attributes.get("imputed_value_floats", [0.0]), dtype)
        missing = e("IsNaN", x) if np.isnan(wanted) else e("Equal", x, e.constant(wanted, dtype))
    else:
        new = e.constant(attributes.get("imputed_value_int64s", [0]), dtype)
        missing = e("Equal", x, e.constant(attributes.get("replaced_value_int64", 0), dtype))
    e.finish("Where", missing, new, x)


def _label_encoder(e: Emitter) -> None:
    attributes = e.node.attributes

    def table(what: str) -> np.ndarray:
        for kind, dtype in (("int64s", np.int64), ("floats", np.float32)):
            if f"{what}_{kind}" in attributes:
                return np.array(attributes[f"{what}_{kind}"], dtype)
        tensor = attributes.get(f"{what}_tensor")
        if isinstance(tensor, np.ndarray):
            return tensor.reshape(-1)
        raise e.fail(f"has no {what} of numbers; texts are mapped from texts only")

    keys, values = table("keys"), table("values")
    fallback = attributes.get("default_tensor")
    if fallback is None:
        name = "default_int64" if values.dtype.kind == "i" else "default_float"
        fallback = np.array(attributes.get(name, -1 if values.dtype.kind == "i" else -0.0))
    x = e("Unsqueeze", e.node.inputs[0], e.constant([-1]))
    matches = e("Equal", x, e.constant(keys, keys.dtype.name))
    if keys.dtype.kind == "f" and np.isnan(keys).any():
        both = e("And", e("IsNaN", x), e.constant(np.isnan(keys), "bool"))
        matches = e("Or", matches, both)
    numbers = e("Cast", matches, to="int32")
    place = e("ArgMax", numbers, axis=-1, keepdims=0)
    found = e("Cast", e("ReduceMax", numbers, e.constant([-1]), keepdims=0), to="bool")
    mapped = e("Gather", e.constant(values, values.dtype.name), place, axis=0)
    other = e.constant(np.asarray(fallback).reshape(()), values.dtype.name)
    e.finish("Where", found, mapped, other)


def _tf_idf(e: Emitter) -> None:
    """Counts of n-grams: each is compared with every window of the input, with every skip."""
    a, x = e.node.attributes, e.node.inputs[0]
    if "pool_int64s" not in a:
        raise e.fail("counts n-grams of numbers; a pool of strings is not supported")
    pool = np.array(a["pool_int64s"], np.int64)
    starts = [*a["ngram_counts"], len(pool)]
    dtype = e.context.dtype(x)
    parts = []
    kept = 0
    for index in range(len(starts) - 1):
        length = index + 1
        grams = pool[starts[index] : starts[index + 1]].reshape(-1, length)
        if len(grams) == 0:
            continue
        wanted = a["min_gram_length"] <= length <= a["max_gram_length"]
        most = int(a["max_skip_count"])
        if most > MAX_SKIPS:
            raise e.fail(f"max_skip_count is {most}; the limit is {MAX_SKIPS}")
        skips = range(most + 1) if length > 1 else range(1)
        total = ""
        for skip in skips if wanted else ():
            same = ""
            for k in range(length):
                step = skip + 1
                end = -(length - 1 - k) * step or _LAST
                bounds = [e.constant([v]) for v in (k * step, end, -1)]
                window = e("Unsqueeze", e("Slice", x, *bounds), e.constant([-1]))
                equal = e("Equal", window, e.constant(grams[:, k], dtype))
                same = e("And", same, equal) if same else equal
            found = e("ReduceSum", e("Cast", same, to="float32"), e.constant([-2]), keepdims=0)
            total = e("Add", total, found) if total else found
        if not total:  # of a length that is not counted: nothing is found
            first = [e.constant([v]) for v in (0, 1, -1)]
            nothing = e("Slice", x, *first)
            zeros = e("Cast", e("Sub", nothing, nothing), to="float32")
            total = e("Mul", zeros, e.constant(np.zeros(len(grams)), "float32"))
        parts.append(total)
        kept += len(grams)
    counts = e("Concat", *parts, axis=-1) if len(parts) > 1 else parts[0]
    _weigh_counts(e, counts, kept)


def _weigh_counts(e: Emitter, counts: str, kept: int) -> None:
    """Counts in the order of the pool to the places that ngram_indexes give them, weighted."""
    a = e.node.attributes
    places = np.array(a["ngram_indexes"], np.int64)
    if places.size and places.min() < 0:
        raise e.fail("ngram_indexes has negative places")
    if len(places) != kept:
        raise e.fail(f"has {len(places)} ngram_indexes for {kept} n-grams")
    weights = np.array(a.get("weights", np.ones(kept)), np.float32)
    mode = a.get("mode", "TF")
    if mode == "IDF":
        counts = e("Cast", e("Greater", counts, e.constant(0, "float32")), to="float32")
    elif mode not in ("TF", "TFIDF"):
        raise e.fail(f"mode is TF, IDF or TFIDF, not {mode}")
    spread = e.table((kept, int(places.max()) + 1), 0, np.float32)
    spread[np.arange(kept), places] = 1 if mode == "TF" else weights
    e.finish("MatMul", counts, e.constant(spread, "float32"))


_ADAPTERS: dict[str, Callable[[Emitter], None]] = {
    "ArrayFeatureExtractor": _array_feature_extractor,
    "Binarizer": _binarizer,
    "Imputer": _imputer,
    "LabelEncoder": _label_encoder,
    "LinearClassifier": linear_classifier,
    "LinearRegressor": linear_regressor,
    "Normalizer": _normalizer,
    "SVMClassifier": svm_classifier,
    "SVMRegressor": svm_regressor,
    "Scaler": _scaler,
    "TreeEnsemble": tree_ensemble,
    "TreeEnsembleClassifier": tree_classifier,
    "TreeEnsembleRegressor": tree_regressor,
}


def _of_strings(node: Node) -> bool:
    """A table of texts, which the engine's own LabelEncoder knows."""
    tensor = node.attributes.get("keys_tensor")
    of_texts = isinstance(tensor, np.ndarray) and tensor.dtype == object
    return node.op == "LabelEncoder" and ("keys_strings" in node.attributes or of_texts)


def replace(node: Node, context: Context) -> bool:
    """Emits what stands for the node; False where no adapter knows it."""
    if _of_strings(node):
        return False
    of_domain = _ADAPTERS.get(node.op) if node.domain == DOMAIN else None
    if node.domain == "" and node.op == "TfIdfVectorizer":
        of_domain = _tf_idf
    if of_domain is None:
        return False
    try:
        of_domain(Emitter(node, context))
    except (IndexError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{node.label} lacks attributes, or has them of a wrong kind ({error})"
        ) from error
    return True
