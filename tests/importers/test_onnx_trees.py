"""Tree ensembles, linear models and support vectors of ai.onnx.ml: the same as onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from dlk import _core
from dlk.importers.onnx import load_graph
from onnx import TensorProto, helper

DOMAIN = "ai.onnx.ml"
FEATURES = 4
RNG = np.random.default_rng(11)
X = RNG.normal(size=(9, FEATURES)).round(1).astype(np.float32)


def make(op: str, outputs: list[int], version: int = 1, **attributes: Any) -> Any:
    names = ["y", "z"][: len(outputs)]
    node = helper.make_node(op, ["x"], names, domain=DOMAIN, **attributes)
    infos = [helper.make_tensor_value_info(n, t, None) for n, t in zip(names, outputs, strict=True)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", FEATURES])
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid(DOMAIN, version)]
    graph = helper.make_graph([node], "g", [x], infos)
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def check(model: Any, device: Any, x: np.ndarray = X) -> None:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = session.run(None, {"x": x})
    got = _core.Model(load_graph(model), device).create_session().run({"x": x})
    for output, want in zip(session.get_outputs(), expected, strict=True):
        assert got[output.name].dtype == want.dtype
        np.testing.assert_allclose(got[output.name].reshape(want.shape), want, rtol=1e-4, atol=1e-5)


class Forest:
    """Random trees in the lists that the old operators have."""

    def __init__(self, trees: int, depth: int, modes: list[str]) -> None:
        self.lists: dict[str, list[Any]] = {
            f"nodes_{k}": []
            for k in (
                "treeids",
                "nodeids",
                "featureids",
                "values",
                "modes",
                "truenodeids",
                "falsenodeids",
                "missing_value_tracks_true",
            )
        }
        self.leaves: list[tuple[int, int]] = []
        for tree in range(trees):
            self._grow(tree, [0], 0, depth, modes)

    def _grow(self, tree: int, count: list[int], level: int, depth: int, modes: list[str]) -> int:
        number = count[0]
        count[0] += 1
        row = len(self.lists["nodes_treeids"])
        leaf = level == depth or (level > 0 and RNG.random() < 0.3)
        mode = "LEAF" if leaf else str(RNG.choice(modes))
        feature, split = int(RNG.integers(FEATURES)), round(float(RNG.normal()), 1)
        entry = (tree, number, feature, split, mode, 0, 0, int(RNG.integers(2)))
        for values, value in zip(self.lists.values(), entry, strict=True):
            values.append(value)
        if leaf:
            self.leaves.append((tree, number))
        else:
            left = self._grow(tree, count, level + 1, depth, modes)
            right = self._grow(tree, count, level + 1, depth, modes)
            self.lists["nodes_truenodeids"][row] = left
            self.lists["nodes_falsenodeids"][row] = right
        return number

    def weights(self, what: str, targets: list[int], positive: bool = False) -> dict[str, Any]:
        """A weight of one or two targets for each leaf."""
        rows = [(t, n, c) for t, n in self.leaves for c in targets[: 1 + RNG.integers(2)]]
        weights = RNG.normal(size=len(rows))
        weights = np.abs(weights) / 4 if positive else weights
        return {
            f"{what}_treeids": [r[0] for r in rows],
            f"{what}_nodeids": [r[1] for r in rows],
            f"{what}_ids": [r[2] for r in rows],
            f"{what}_weights": [float(w) for w in weights],
        }


LEQ = ["BRANCH_LEQ"]
ALL = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


@pytest.mark.parametrize("kind", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("modes", [LEQ, ALL])
def test_tree_regressor(kind: str, modes: list[str], device: Any) -> None:
    forest = Forest(5, 4, modes)
    attributes = forest.lists | forest.weights("target", [0])
    model = make(
        "TreeEnsembleRegressor",
        [TensorProto.FLOAT],
        n_targets=1,
        aggregate_function=kind,
        base_values=[0.25],
        **attributes,
    )
    missing = X.copy()
    missing[::3, ::2] = np.nan
    check(model, device)
    check(model, device, missing)


def test_tree_regressor_of_several_targets(device: Any) -> None:
    forest = Forest(4, 3, LEQ)
    attributes = forest.lists | forest.weights("target", [0, 2])
    check(make("TreeEnsembleRegressor", [TensorProto.FLOAT], n_targets=3, **attributes), device)


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
def test_tree_classifier(transform: str, device: Any) -> None:
    forest = Forest(5, 4, ALL)
    attributes = forest.lists | forest.weights("class", [2, 0])
    outputs = [TensorProto.INT64, TensorProto.FLOAT]
    check(
        make(
            "TreeEnsembleClassifier",
            outputs,
            classlabels_int64s=[7, 3, 5],
            post_transform=transform,
            base_values=[0.1, 0.2, 0.3],
            **attributes,
        ),
        device,
    )


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("named", [0, 1])
@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_tree_classifier_of_two_classes(
    positive: bool, named: int, transform: str, device: Any
) -> None:
    forest = Forest(3, 3, LEQ)
    attributes = forest.lists | forest.weights("class", [named], positive)
    check(
        make(
            "TreeEnsembleClassifier",
            [TensorProto.INT64, TensorProto.FLOAT],
            classlabels_int64s=[-1, 1],
            post_transform=transform,
            **attributes,
        ),
        device,
    )


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize("classes", [2, 3])
def test_linear_classifier(classes: int, transform: str, device: Any) -> None:
    model = make(
        "LinearClassifier",
        [TensorProto.INT64, TensorProto.FLOAT],
        classlabels_ints=[4, 2, 9][:classes],
        coefficients=RNG.normal(size=classes * FEATURES).tolist(),
        intercepts=RNG.normal(size=classes).tolist(),
        multi_class=1,
        post_transform=transform,
    )
    check(model, device)


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_linear_classifier_of_one_row(transform: str, device: Any) -> None:
    model = make(
        "LinearClassifier",
        [TensorProto.INT64, TensorProto.FLOAT],
        classlabels_ints=[4, 2],
        coefficients=RNG.normal(size=FEATURES).tolist(),
        intercepts=[0.1],
        post_transform=transform,
    )
    check(model, device)


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor(kernel: str, one_class: int, device: Any) -> None:
    model = make(
        "SVMRegressor",
        [TensorProto.FLOAT],
        kernel_type=kernel,
        kernel_params=[0.3, 1.5, 3.0],
        n_supports=5,
        support_vectors=RNG.normal(size=5 * FEATURES).tolist(),
        coefficients=RNG.normal(size=5).tolist(),
        rho=[0.2],
        one_class=one_class,
    )
    check(model, device)


def test_svm_regressor_without_vectors(device: Any) -> None:
    model = make(
        "SVMRegressor",
        [TensorProto.FLOAT],
        kernel_type="LINEAR",
        kernel_params=[0.0, 0.0, 0.0],
        coefficients=RNG.normal(size=FEATURES).tolist(),
        rho=[0.2],
    )
    check(model, device)


@pytest.mark.parametrize("kernel", ["LINEAR", "RBF"])
@pytest.mark.parametrize(("classes", "transform"), [(2, "NONE"), (2, "LOGISTIC"), (3, "NONE")])
def test_svm_classifier(kernel: str, classes: int, transform: str, device: Any) -> None:
    vectors = 2 * classes + 1
    pairs = classes * (classes - 1) // 2
    model = make(
        "SVMClassifier",
        [TensorProto.INT64, TensorProto.FLOAT],
        classlabels_ints=[4, 2, 9][:classes],
        kernel_type=kernel,
        kernel_params=[0.3, 1.5, 3.0],
        vectors_per_class=[3, *[2] * (classes - 1)],
        support_vectors=RNG.normal(size=vectors * FEATURES).tolist(),
        coefficients=RNG.normal(size=vectors * (classes - 1)).tolist(),
        rho=RNG.normal(size=pairs).tolist(),
        post_transform=transform,
    )
    check(model, device)


def test_what_is_wrong_is_said() -> None:
    forest = Forest(1, 2, LEQ)
    good = forest.lists | forest.weights("target", [0])
    out = [TensorProto.FLOAT]
    bad = good | {"nodes_modes": ["BRANCH_SOMETIMES"] * len(good["nodes_modes"])}
    with pytest.raises(ValueError, match="BRANCH_SOMETIMES"):
        load_graph(make("TreeEnsembleRegressor", out, **bad))
    bad = good | {"nodes_truenodeids": [77] * len(good["nodes_modes"])}
    with pytest.raises(ValueError, match="node that does not exist"):
        load_graph(make("TreeEnsembleRegressor", out, **bad))
    chain = good | {"nodes_truenodeids": [0] * len(good["nodes_modes"])}
    with pytest.raises(ValueError, match=r"roots|cycle"):
        load_graph(make("TreeEnsembleRegressor", out, **chain))
    texts = good | forest.weights("class", [0]) | {"classlabels_strings": ["a", "b"]}
    texts = {k: v for k, v in texts.items() if not k.startswith("target")}
    with pytest.raises(ValueError, match="texts are not supported"):
        load_graph(make("TreeEnsembleClassifier", [TensorProto.STRING, *out], **texts))
