"""The suite watches itself: no operator without a case, no case that cannot fail."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ..conftest import device_ids, open_device, required_backends
from . import passport
from .case import Case, Tolerance
from .harness import Variant, compare, load_cases

NO_PARITY_CASE: dict[str, str] = {
    "SeparableConv": "test_separable.py: made by the fusion pass, it cannot stand in a graph",
    "Pointwise": "test_graphs.py: made by the fusion pass, it cannot stand in a graph",
    **dict.fromkeys(
        ("StringConcat", "StringSplit", "StringNormalizer", "RegexFullMatch", "LabelEncoder"),
        "tests/onnx: strings are evaluated on the host",
    ),
    "PointwiseGradient": "test_gradients.py: gradients of the pointwise operators",
    "SumTo": "test_gradients.py: gradients of operators that broadcast",
    "GatherGradient": "test_gradients.py: gradient of Gather",
    "GatherNDGradient": "test_gradients.py: gradient of GatherND",
    "Im2Col": "test_gradients.py: gradient of Col2Im",
    "ConvTransposeInputGradient": "test_gradients.py: gradient of ConvTranspose",
    "SliceGradient": "test_gradients.py: gradient of Slice",
    "PoolGradient": "test_gradients.py: gradients of the pools",
    "ConvInputGradient": "test_gradients.py: gradient of Conv",
    "ConvWeightGradient": "test_gradients.py: gradients of Conv and ConvTranspose",
    "BatchNormalizationGradient": "test_gradients.py: gradient of BatchNormalization",
    "Overflow": "tests/train/test_optimizers.py: a list of tensors with one infinity",
    "OptimizerStep": "tests/train/test_optimizers.py: each optimizer against PyTorch",
    "GRUStates": "test_gradients.py: gradient of GRU",
    "RecurrentBackward": "test_gradients.py: gradients of RNN, GRU, LSTM",
    "CrossEntropy": "tests/train/test_losses.py: against PyTorch",
    "CrossEntropyGradient": "tests/train/test_losses.py: against PyTorch",
    "CTCLoss": "tests/train/test_losses.py: against PyTorch",
    "CTCLossGradient": "tests/train/test_losses.py: against PyTorch",
}
"""Operators that cannot have a one-operator case, with the test that covers each."""


def test_every_operator_has_a_case() -> None:
    from dlk import _core

    covered = {(c.domain, c.op) for c in load_cases().values()}
    missing = [
        f"{op['domain']}:{op['name']}"
        for op in _core.operators()
        if (op["domain"], op["name"]) not in covered and op["name"] not in NO_PARITY_CASE
    ]
    assert not missing, f"operators without a parity case: {', '.join(missing)}"


def test_every_case_names_an_operator() -> None:
    from dlk import _core

    known = {(op["domain"], op["name"]) for op in _core.operators()}
    unknown = [c.id for c in load_cases().values() if (c.domain, c.op) not in known]
    assert not unknown, f"cases of operators that do not exist: {', '.join(unknown)}"


def test_tolerances_have_reasons() -> None:
    for c in load_cases().values():
        for tolerance in c.tolerance.values():
            assert tolerance.reason, c.id


def test_required_devices_are_there() -> None:
    for name in required_backends():
        open_device(next((i for i in device_ids() if i.split(":")[0] == name), f"{name}:0"))


def _variant(exact: bool = False) -> Variant:
    c = Case(op="Relu", name="meta", inputs=lambda rng: {}, oracle=lambda: None, exact=exact)
    return Variant(c, "float32", "contiguous")


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (np.zeros((2, 3), np.float32), np.zeros((3, 2))),
        (np.array([1.0, np.nan], np.float32), np.array([1.0, 2.0])),
        (np.array([1.0, np.inf], np.float32), np.array([1.0, -np.inf])),
        (np.array([1, 2], np.int32), np.array([1.0, 2.0])),
        (np.array([1, 2], np.int32), np.array([1, 3], np.int32)),
        (np.array([1, 2], np.int32), np.array([1, 2], np.int64)),
        (np.array([1, 0], np.uint8), np.array([True, False])),
    ],
)
def test_judgement_catches(got: np.ndarray, want: np.ndarray) -> None:
    assert compare(got, want, _variant()).problem


def test_judgement_measures_the_worst_element() -> None:
    want = np.array([1.0, 100.0])
    got = np.array([1.5, 100.0], np.float32)
    outcome = compare(got, want, _variant())
    assert outcome.relative == pytest.approx(0.005)
    tight = dataclasses.replace(_variant().case, tolerance={"float32": Tolerance(1e-3, "test")})
    assert outcome.relative > tight.tolerance_for("float32").bound


def test_exact_cases_allow_no_rounding() -> None:
    got = np.array([np.nextafter(np.float32(1), np.float32(2))], np.float32)
    assert compare(got, np.array([1.0]), _variant(exact=True)).problem


def test_passport_tells_the_worst_case_and_failures(tmp_path: Path) -> None:
    entries = [
        passport.entry("opencl:0", "Relu", "float32", "Relu.a", 1e-7, 1.0, "passed"),
        passport.entry("opencl:0", "Relu", "float32", "Relu.b", 3e-7, 2.0, "passed"),
        passport.entry("opencl:0", "Exp", "float32", "Exp.a", 0.0, 0.0, "failed"),
        passport.entry("opencl:0", "Exp", "float64", "Exp.a", 0.0, 0.0, "unsupported"),
    ]
    made = passport.build(entries, [{"id": "opencl:0", "name": "<b>", "driver": "1"}])
    passport.write(made, tmp_path / "deep" / "passport.json")
    assert json.loads((tmp_path / "deep" / "passport.json").read_text()) == made
    cell = made["forward"]["opencl:0"]["Relu"]["float32"]
    assert (cell["cases"], cell["relative"], cell["worst"]) == (2, 3e-7, "Relu.b")
    page = (tmp_path / "deep" / "passport.html").read_text(encoding="utf-8")
    for text in ("1 of 1 failed", "unsupported", "&lt;b&gt;", "2 operators, 4 cases, 1 failed"):
        assert text in page, text
