"""Operators of the domain ai.onnx.ml, and TfIdfVectorizer, by tensor operators.

Each adapter emits what replaces the node. Trees are walked level by level: a table of nodes is
gathered at the places that all rows and trees have reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .adapters import Context
from .node import Node

DOMAIN = "ai.onnx.ml"
_LAST = np.iinfo(np.int64).max


class _Emitter:
    """Names what the nodes of one operator make."""

    def __init__(self, node: Node, context: Context) -> None:
        self.node = node
        self.context = context

    def constant(self, values: Any, dtype: str = "int64") -> str:
        return self.context.constant(np.array(values, dtype), f"{self.node.outputs[0]}/table")

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.context.emit(op, list(inputs), f"{self.node.outputs[0]}/{op}", **attributes)

    def finish(self, op: str, *inputs: str, **attributes: Any) -> None:
        self.context.emit(op, list(inputs), self.node.outputs[:1], **attributes)

    def fail(self, message: str) -> ValueError:
        return ValueError(f"{self.node.label}: {message}")

    def floats(self) -> str:
        """The first input as float32."""
        return self("Cast", self.node.inputs[0], to="float32")


def _array_feature_extractor(e: _Emitter) -> None:
    index = e("Reshape", e.node.inputs[1], e.constant([-1]))
    e.finish("Gather", e.node.inputs[0], index, axis=-1)


def _binarizer(e: _Emitter) -> None:
    x, dtype = e.node.inputs[0], e.context.dtype(e.node.inputs[0])
    above = e("Greater", x, e.constant(e.node.attributes.get("threshold", 0.0), dtype))
    e.finish("Cast", above, to=dtype)


def _scaler(e: _Emitter) -> None:
    offset = e.constant(e.node.attributes.get("offset", [0.0]), "float32")
    scale = e.constant(e.node.attributes.get("scale", [1.0]), "float32")
    e.finish("Mul", e("Sub", e.floats(), offset), scale)


def _normalizer(e: _Emitter) -> None:
    norm = e.node.attributes.get("norm", "MAX")
    x = e.floats()
    reductions = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}
    if norm not in reductions:
        raise e.fail(f"norm is MAX, L1 or L2, not {norm}")
    size = e(reductions[norm], x, e.constant([-1]), keepdims=1)
    e.finish("Div", x, size)


def _imputer(e: _Emitter) -> None:
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


def _post_transform(e: _Emitter, x: str, kind: str) -> None:
    if kind == "NONE":
        e.finish("Identity", x)
    elif kind == "SOFTMAX":
        e.finish("Softmax", x, axis=-1)
    elif kind == "LOGISTIC":
        e.finish("Sigmoid", x)
    else:
        raise e.fail(f"post_transform {kind} is not supported")


def _linear_regressor(e: _Emitter) -> None:
    targets = int(e.node.attributes.get("targets", 1))
    weights = np.array(e.node.attributes.get("coefficients", []), np.float32)
    if weights.size == 0 or weights.size % targets:
        raise e.fail("coefficients must be one row a target")
    y = e("MatMul", e.floats(), e.constant(weights.reshape(targets, -1).T.copy(), "float32"))
    if e.node.attributes.get("intercepts"):
        y = e("Add", y, e.constant(e.node.attributes["intercepts"], "float32"))
    _post_transform(e, y, e.node.attributes.get("post_transform", "NONE"))


def _label_encoder(e: _Emitter) -> None:
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


_TESTS = {0: "LessOrEqual", 1: "Less", 2: "GreaterOrEqual", 3: "Greater", 4: "Equal"}
_NOT_EQUAL, _MEMBER = 5, 6


def _depth(left: np.ndarray, right: np.ndarray, roots: np.ndarray, leaves: int) -> int:
    """Steps from the roots to the deepest leaf; leaves are the places from `leaves` on."""
    level, depth = np.unique(roots), 0
    while (level < leaves).any():
        inner = level[level < leaves]
        level = np.unique(np.concatenate([left[inner], right[inner]]))
        depth += 1
        if depth > leaves:
            raise ValueError("the nodes of a tree ensemble form a cycle")
    return depth


def _member_sets(e: _Emitter, modes: np.ndarray, total: int, dtype: str) -> np.ndarray:
    """Values that each place tests membership of, NaN where there are fewer."""
    given = e.node.attributes.get("membership_values")
    sets: list[list[float]] = [[]]
    for value in np.asarray(given, np.float64) if given is not None else ():
        if np.isnan(value):
            sets.append([])
        else:
            sets[-1].append(value)
    table = np.full((total, max(1, *(len(s) for s in sets))), np.nan, dtype)
    for place, members in zip(np.flatnonzero(modes == _MEMBER), sets, strict=False):
        table[place, : len(members)] = members
    return table


def _tree_ensemble(e: _Emitter) -> None:
    a, x = e.node.attributes, e.node.inputs[0]
    dtype = e.context.dtype(x)
    count = len(a["nodes_featureids"])
    weights = np.asarray(a["leaf_weights"])
    total = count + len(weights)  # leaves stand behind the nodes, and lead to themselves

    def whole(values: Any, fill: Any, kind: str) -> np.ndarray:
        table = np.full(total, fill, kind)
        table[:count] = values
        return table

    def branch(name: str) -> np.ndarray:
        ids = np.array(a[f"nodes_{name}nodeids"], np.int64)
        ids = ids + count * np.array(a[f"nodes_{name}leafs"], np.int64)
        if ids.min() < 0 or ids.max() >= total:
            raise e.fail(f"nodes_{name}nodeids name nodes that do not exist")
        return np.concatenate([ids, np.arange(count, total)])

    left, right = branch("true"), branch("false")
    roots = np.array(a["tree_roots"], np.int64)
    modes = whole(np.asarray(a["nodes_modes"]), 0, "int64")
    splits = e.constant(whole(np.asarray(a["nodes_splits"]), 0, dtype), dtype)
    features = e.constant(whole(a["nodes_featureids"], 0, "int64"))
    missing = a.get("nodes_missing_value_tracks_true", [0] * count)
    trees = len(roots)
    rows = e("Shape", x, start=0, end=1)
    shape = e("Concat", rows, e.constant([trees]), axis=0)
    at = e("Expand", e.constant(roots), shape)
    present = [m for m in np.unique(modes[:count]) if m in _TESTS]
    for _ in range(_depth(left, right, roots, count)):
        value = e("GatherElements", x, e("Gather", features, at, axis=0), axis=1)
        split = e("Gather", splits, at, axis=0)
        mode = e("Gather", e.constant(modes), at, axis=0)
        holds = ""
        tests = [(m, e(_TESTS[int(m)], value, split)) for m in present]
        if (modes == _NOT_EQUAL).any():
            tests.append((_NOT_EQUAL, e("Not", e("Equal", value, split))))
        if (modes == _MEMBER).any():
            sets = e.constant(_member_sets(e, modes, total, dtype), dtype)
            near = e(
                "Equal", e("Unsqueeze", value, e.constant([-1])), e("Gather", sets, at, axis=0)
            )
            any_of = e("ReduceMax", e("Cast", near, to="int32"), e.constant([-1]), keepdims=0)
            tests.append((_MEMBER, e("Cast", any_of, to="bool")))
        for number, test in tests:
            chosen = e("And", e("Equal", mode, e.constant(number)), test)
            holds = e("Or", holds, chosen) if holds else chosen
        if any(missing):
            follows = e("Gather", e.constant(whole(missing, 0, "int64")), at, axis=0)
            absent = e("And", e("IsNaN", value), e("Cast", follows, to="bool"))
            holds = e("Or", holds, absent)
        at = e(
            "Where",
            holds,
            e("Gather", e.constant(left), at, axis=0),
            e("Gather", e.constant(right), at, axis=0),
        )
    _aggregate(e, e("Sub", at, e.constant(count)), weights, dtype)


def _aggregate(e: _Emitter, leaf: str, weights: np.ndarray, dtype: str) -> None:
    """Leaf weights of all trees (rows, trees) to targets (rows, targets)."""
    a = e.node.attributes
    targets = int(a.get("n_targets", 1))
    kind = int(a.get("aggregate_function", 1))
    neutral = {2: np.inf, 3: -np.inf}.get(kind, 0.0)
    table = np.full((len(weights), targets), neutral, dtype)
    table[np.arange(len(weights)), np.array(a["leaf_targetids"], np.int64)] = weights
    each = e("Gather", e.constant(table, dtype), leaf, axis=0)
    op = {0: "ReduceMean", 1: "ReduceSum", 2: "ReduceMin", 3: "ReduceMax"}[kind]
    y = e(op, each, e.constant([1]), keepdims=0)
    names = {0: "NONE", 1: "SOFTMAX", 2: "LOGISTIC", 3: "SOFTMAX_ZERO", 4: "PROBIT"}
    _post_transform(e, y, names.get(int(a.get("post_transform", 0)), "unknown"))


def _tf_idf(e: _Emitter) -> None:
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
        skips = range(int(a["max_skip_count"]) + 1) if length > 1 else range(1)
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


def _weigh_counts(e: _Emitter, counts: str, kept: int) -> None:
    """Counts in the order of the pool to the places that ngram_indexes give them, weighted."""
    a = e.node.attributes
    places = np.array(a["ngram_indexes"], np.int64)
    if len(places) != kept:
        raise e.fail(f"has {len(places)} ngram_indexes for {kept} n-grams")
    weights = np.array(a.get("weights", np.ones(kept)), np.float32)
    mode = a.get("mode", "TF")
    if mode == "IDF":
        counts = e("Cast", e("Greater", counts, e.constant(0, "float32")), to="float32")
    elif mode not in ("TF", "TFIDF"):
        raise e.fail(f"mode is TF, IDF or TFIDF, not {mode}")
    spread = np.zeros((kept, int(places.max()) + 1), np.float32)
    spread[np.arange(kept), places] = 1 if mode == "TF" else weights
    e.finish("MatMul", counts, e.constant(spread, "float32"))


_ADAPTERS: dict[str, Callable[[_Emitter], None]] = {
    "ArrayFeatureExtractor": _array_feature_extractor,
    "Binarizer": _binarizer,
    "Imputer": _imputer,
    "LabelEncoder": _label_encoder,
    "LinearRegressor": _linear_regressor,
    "Normalizer": _normalizer,
    "Scaler": _scaler,
    "TreeEnsemble": _tree_ensemble,
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
        of_domain(_Emitter(node, context))
    except (IndexError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{node.label} lacks attributes, or has them of a wrong kind ({error})"
        ) from error
    return True
