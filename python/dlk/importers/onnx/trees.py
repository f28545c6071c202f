"""Tree ensembles by tensor operators: the newest form, and the classifier and regressor of old
ones. All rows walk all trees level by level; tables of nodes are gathered at the places reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .emitter import Emitter
from .labels import emit_both, emit_chosen, finish_classifier, labels_of

MAX_DEPTH = 1024

_TESTS = {0: "LessOrEqual", 1: "Less", 2: "GreaterOrEqual", 3: "Greater", 4: "Equal"}
_NOT_EQUAL, _MEMBER = 5, 6
_LEAF = 7
_MODES = {
    "BRANCH_LEQ": 0,
    "BRANCH_LT": 1,
    "BRANCH_GTE": 2,
    "BRANCH_GT": 3,
    "BRANCH_EQ": 4,
    "BRANCH_NEQ": _NOT_EQUAL,
    "BRANCH_MEMBER": _MEMBER,
    "LEAF": _LEAF,
}
_SUM, _AVERAGE, _MIN, _MAX = 1, 0, 2, 3


@dataclass
class _Forest:
    """Nodes of all trees by place, as arrays of one length; leaves lead to themselves."""

    features: np.ndarray
    splits: np.ndarray
    modes: np.ndarray  # numbers of tests; _LEAF
    left: np.ndarray  # where the test holds
    right: np.ndarray
    missing: np.ndarray  # whether NaN passes the test
    roots: np.ndarray
    members: np.ndarray | None = None  # of membership tests: (places, values), NaN where fewer

    def depth(self) -> int:
        """Steps from the roots to the deepest leaf."""
        leaf = self.modes == _LEAF
        level, depth = np.unique(self.roots), 0
        while not leaf[level].all():
            inner = level[~leaf[level]]
            level = np.unique(np.concatenate([self.left[inner], self.right[inner]]))
            depth += 1
            if depth > len(leaf):
                raise ValueError("the nodes of a tree ensemble form a cycle")
            if depth > MAX_DEPTH:
                raise ValueError(f"a tree is more than {MAX_DEPTH} levels deep")
        return depth


def _walk(e: Emitter, forest: _Forest, dtype: str) -> str:
    """The leaf's place of each row and tree (rows, trees)."""
    x = e.node.inputs[0]
    steps = forest.depth()
    depends = np.unique(forest.modes)
    splits, features = e.constant(forest.splits, dtype), e.constant(forest.features)
    modes, left, right = (e.constant(t) for t in (forest.modes, forest.left, forest.right))
    missing = e.constant(forest.missing) if forest.missing.any() else ""
    members = "" if forest.members is None else e.constant(forest.members, dtype)
    rows = e("Shape", x, start=0, end=1)
    shape = e("Concat", rows, e.constant([len(forest.roots)]), axis=0)
    at = e("Expand", e.constant(forest.roots), shape)
    for _ in range(steps):
        value = e("GatherElements", x, e("Gather", features, at, axis=0), axis=1)
        split = e("Gather", splits, at, axis=0)
        mode = e("Gather", modes, at, axis=0)
        tests = [(m, e(_TESTS[m], value, split)) for m in depends.tolist() if m in _TESTS]
        if _NOT_EQUAL in depends:
            tests.append((_NOT_EQUAL, e("Not", e("Equal", value, split))))
        if members:
            wide = e("Unsqueeze", value, e.constant([-1]))
            near = e("Cast", e("Equal", wide, e("Gather", members, at, axis=0)), to="int32")
            any_of = e("ReduceMax", near, e.constant([-1]), keepdims=0)
            tests.append((_MEMBER, e("Cast", any_of, to="bool")))
        holds = ""
        for number, test in tests:
            chosen = e("And", e("Equal", mode, e.constant(number)), test)
            holds = e("Or", holds, chosen) if holds else chosen
        if missing:
            follows = e("Cast", e("Gather", missing, at, axis=0), to="bool")
            holds = e("Or", holds, e("And", e("IsNaN", value), follows))
        at = e("Where", holds, e("Gather", left, at, axis=0), e("Gather", right, at, axis=0))
    return at


def _aggregated(e: Emitter, at: str, table: np.ndarray, kind: int, dtype: str) -> str:
    """What the trees' leaves give together: (places, targets) to (rows, targets)."""
    ops = {_AVERAGE: "ReduceMean", _SUM: "ReduceSum", _MIN: "ReduceMin", _MAX: "ReduceMax"}
    if kind not in ops:
        raise e.fail(f"aggregate_function {kind} is not one of 0 to 3")
    each = e("Gather", e.constant(table, dtype), at, axis=0)
    return e(ops[kind], each, e.constant([1]), keepdims=0)


def _neutral(kind: int) -> float:
    return {_MIN: np.inf, _MAX: -np.inf}.get(kind, 0.0)


# The newest form: leaves are apart from nodes


def _member_sets(e: Emitter, modes: np.ndarray, dtype: str) -> np.ndarray | None:
    """Values that each place tests membership of, NaN where there are fewer."""
    if not (modes == _MEMBER).any():
        return None
    given = e.node.attributes.get("membership_values")
    sets: list[list[float]] = [[]]
    for value in np.asarray(given, np.float64) if given is not None else ():
        if np.isnan(value):
            sets.append([])
        else:
            sets[-1].append(value)
    table = e.table((len(modes), max(1, *(len(s) for s in sets), 1)), np.nan, dtype)
    for place, members in zip(np.flatnonzero(modes == _MEMBER), sets, strict=False):
        table[place, : len(members)] = members
    return table


def tree_ensemble(e: Emitter) -> None:
    a, dtype = e.node.attributes, e.context.dtype(e.node.inputs[0])
    count = len(a["nodes_featureids"])
    weights = np.asarray(a["leaf_weights"])
    total = count + len(weights)  # leaves stand behind the nodes

    def whole(values: Any, fill: Any, kind: str) -> np.ndarray:
        table = e.table((total,), fill, kind)
        table[:count] = values
        return table

    def branch(name: str) -> np.ndarray:
        ids = np.array(a[f"nodes_{name}nodeids"], np.int64)
        ids = ids + count * np.array(a[f"nodes_{name}leafs"], np.int64)
        if ids.min() < 0 or ids.max() >= total:
            raise e.fail(f"nodes_{name}nodeids name nodes that do not exist")
        return np.concatenate([ids, np.arange(count, total)])

    modes = whole(np.asarray(a["nodes_modes"]), _LEAF, "int64")
    if not np.isin(modes, list(_MODES.values())).all():
        raise e.fail("nodes_modes has a number that is no test")
    forest = _Forest(
        whole(a["nodes_featureids"], 0, "int64"),
        whole(np.asarray(a["nodes_splits"]), 0, dtype),
        modes,
        branch("true"),
        branch("false"),
        whole(a.get("nodes_missing_value_tracks_true", 0), 0, "int64"),
        _roots(e, np.array(a["tree_roots"], np.int64), total),
        _member_sets(e, modes, dtype),
    )
    kind = int(a.get("aggregate_function", _SUM))
    targets = int(a.get("n_targets", 1))
    table = e.table((len(weights), targets), _neutral(kind), dtype)
    table[np.arange(len(weights)), np.array(a["leaf_targetids"], np.int64)] = weights
    leaf = e("Sub", _walk(e, forest, dtype), e.constant(count))
    y = _aggregated(e, leaf, table, kind, dtype)
    names = {0: "NONE", 1: "SOFTMAX", 2: "LOGISTIC", 3: "SOFTMAX_ZERO", 4: "PROBIT"}
    transform = names.get(int(a.get("post_transform", 0)), "unknown")
    e.finish("Identity", e.transformed(y, transform))


def _roots(e: Emitter, roots: np.ndarray, total: int) -> np.ndarray:
    if roots.size == 0 or roots.min() < 0 or roots.max() >= total:
        raise e.fail("has no trees, or roots that do not exist")
    return roots


# The old forms: nodes are named by tree and number, leaves are nodes


def _values(a: dict[str, Any], name: str, fallback: Any = ()) -> np.ndarray:
    """An attribute that may be a list or, as NAME_as_tensor, a tensor."""
    tensor = a.get(f"{name}_as_tensor")
    return np.asarray(a.get(name, fallback) if tensor is None else tensor, np.float64).reshape(-1)


def _named(e: Emitter, what: str) -> np.ndarray:
    """Trees and numbers of nodes as rows of two."""
    a = e.node.attributes
    return np.stack(
        [np.array(a[f"{what}_treeids"], np.int64), np.array(a[f"{what}_nodeids"], np.int64)], 1
    )


def _find_places(e: Emitter) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function from trees and numbers of nodes to their places."""
    names = [tuple(row) for row in _named(e, "nodes").tolist()]
    places = {name: place for place, name in enumerate(names)}
    if len(places) != len(names):
        raise e.fail("has two nodes of one tree and number")

    def find(trees: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        wanted = zip(trees.tolist(), numbers.tolist(), strict=True)
        found = [places.get(name, -1) for name in wanted]
        if -1 in found:
            raise e.fail("names a node that does not exist")
        return np.array(found, np.int64)

    return find


def _old_forest(e: Emitter, find: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> _Forest:
    a = e.node.attributes
    trees = np.array(a["nodes_treeids"], np.int64)
    count = len(trees)
    unknown = set(a["nodes_modes"]) - set(_MODES)
    if unknown or _MODES["BRANCH_MEMBER"] in (_MODES[m] for m in a["nodes_modes"]):
        raise e.fail(f"nodes_modes has tests that its operator has not ({sorted(unknown)})")
    modes = np.array([_MODES[mode] for mode in a["nodes_modes"]], np.int64)
    inner = modes != _LEAF

    def branch(name: str) -> np.ndarray:
        ids = np.array(a[f"nodes_{name}nodeids"], np.int64)
        places = np.arange(count)
        places[inner] = find(trees[inner], ids[inner])
        return places

    left, right = branch("true"), branch("false")
    reached = np.zeros(count, bool)
    reached[left[inner]] = reached[right[inner]] = True
    _, first = np.unique(trees, return_index=True)
    roots = np.flatnonzero(~reached)
    if len(roots) != len(first):
        raise e.fail("has trees with several roots, or with none")
    features = np.where(inner, np.array(a["nodes_featureids"], np.int64), 0)
    missing = np.zeros(count, np.int64)
    missing[:] = a.get("nodes_missing_value_tracks_true") or 0
    splits = _values(a, "nodes_values")
    sizes = {len(t) for t in (modes, left, right, features, splits)}
    if sizes != {count}:
        raise e.fail("its lists of nodes have different lengths")
    return _Forest(features, splits, modes, left, right, missing, _roots(e, roots, count))


def _old_scores(
    e: Emitter, what: str, targets: int, kind: int, dtype: str
) -> tuple[str, np.ndarray]:
    """Aggregated scores (rows, targets) before base values, and which targets leaves name."""
    a = e.node.attributes
    find = _find_places(e)
    forest = _old_forest(e, find)
    named = _named(e, what)
    ids = np.array(a[f"{what}_ids"], np.int64)
    weights = _values(a, f"{what}_weights")
    if len(named) != len(ids) or len(weights) != len(ids):
        raise e.fail(f"its lists {what}_* have different lengths")
    if ids.size and (ids.min() < 0 or ids.max() >= targets):
        raise e.fail(f"{what}_ids has numbers outside of 0 to {targets - 1}")
    leaves = find(named[:, 0], named[:, 1])
    table = e.table((len(forest.modes), targets), 0.0, np.float64)
    np.add.at(table, (leaves, ids), weights)
    if kind in (_MIN, _MAX):
        given = np.zeros(table.shape, bool)
        given[leaves, ids] = True
        table[~given] = _neutral(kind)
    return _aggregated(e, _walk(e, forest, dtype), table, kind, dtype), ids


def _float_input(e: Emitter) -> str:
    """Makes the input float32, or float64 where it is; its dtype."""
    if e.context.dtype(e.node.inputs[0]) == "float64":
        return "float64"
    e.node.inputs[0] = e.floats()
    return "float32"


def _with_base(e: Emitter, y: str, count: int, dtype: str) -> str:
    base = _values(e.node.attributes, "base_values")
    if base.size == 0:
        return y
    if base.size != count:
        raise e.fail(f"has {base.size} base_values for {count} scores")
    return e("Add", y, e.constant(base, dtype))


def tree_regressor(e: Emitter) -> None:
    a, dtype = e.node.attributes, _float_input(e)
    kinds = {"SUM": _SUM, "AVERAGE": _AVERAGE, "MIN": _MIN, "MAX": _MAX}
    kind = kinds.get(a.get("aggregate_function", "SUM"), -1)
    targets = int(a.get("n_targets", 1))
    y, _ = _old_scores(e, "target", targets, kind, dtype)
    y = _with_base(e, y, targets, dtype)
    y = e.transformed(y, a.get("post_transform", "NONE"))
    e.finish("Cast", y, to="float32")


def tree_classifier(e: Emitter) -> None:
    a, dtype = e.node.attributes, _float_input(e)
    labels = labels_of(e, "classlabels_int64s")
    scores, ids = _old_scores(e, "class", len(labels), _SUM, dtype)
    weights = _values(a, "class_weights")
    transform = a.get("post_transform", "NONE")
    if len(labels) == 2 and len(set(ids.tolist())) == 1:
        score = e("Gather", scores, e.constant([int(ids[0])]), axis=1)
        score = e("Cast", _with_base(e, score, 1, dtype), to="float32")
        positive = bool((weights >= 0).all())
        emit_chosen(e, score, labels, 0.5 if positive else 0.0)
        if ids[0] == 0:
            emit_both(e, score, transform, of_one=positive)
        else:  # the other label's score is 0, as if it were one of many
            both = e("Concat", e("Sub", score, score), score, axis=-1)
            e.output(1, "Identity", e.transformed(both, transform))
        return
    y = e("Cast", _with_base(e, scores, len(labels), dtype), to="float32")
    finish_classifier(e, y, labels, transform)
