"""Every gradient on every device against finite differences of the float64 oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .case import Case
from .expectations import refusal_reason
from .gradients import (
    TOLERANCE,
    differences,
    differentiable_ops,
    gradient_cases,
    refusal,
)
from .harness import load_cases
from .passport import entry

CASES = gradient_cases()

FIRST = {c.op: c for c in reversed(CASES)}

FLAT: dict[str, str] = {
    "Ceil": "a step function",
    "Floor": "a step function",
    "Round": "a step function",
    "Sign": "a step function",
    "Hardmax": "a step function",
}
"""Operators whose gradient is zero wherever it exists."""


@pytest.mark.parametrize("c", CASES, ids=lambda c: c.id)
def test_gradient(device: Any, c: Case, request: pytest.FixtureRequest) -> None:
    if refusal(c):
        with pytest.raises(NotImplementedError, match="gradient"):
            differences(c, device)
        return
    try:
        found = differences(c, device)
    except NotImplementedError as error:
        if refusal_reason(device.caps, str(error)) is None:
            raise
        return
    result = {"relative": 0.0, "ulp": 0.0, "status": "failed"}
    try:
        assert found, "no direction could be compared"
        worst = max(abs(d.got - d.want) / d.scale for d in found)
        result["relative"] = worst
        assert worst <= TOLERANCE.bound, f"{worst:.3g} > {TOLERANCE.bound} ({TOLERANCE.reason})"
        if c.op not in FLAT and c is FIRST[c.op]:
            assert any(d.want != 0 for d in found), "every difference is 0: nothing was tested"
        result["status"] = "passed"
    finally:
        record = entry(device.id, c.op, "gradient", c.id, **result)
        request.node.user_properties.append(("parity", record))


def test_every_gradient_has_a_case() -> None:
    tested = {(c.domain, c.op) for c in CASES}
    missing = sorted(differentiable_ops() - tested - set(WITHOUT_CASE_KEYS))
    assert not missing, f"gradients that no parity case reaches: {missing}"


WITHOUT_CASE: dict[str, str] = {
    "Cast": "tests/train/test_autodiff.py: its input and output are of two dtypes",
    "CastLike": "tests/train/test_autodiff.py: its inputs are of two dtypes",
    "Clip": "tests/train/test_autodiff.py: limits away from the data",
}
# Gradients of gradients (tests/train/test_autodiff.py); tests/train/test_losses.py.
OF_GRADIENTS = ("SumTo", "GatherGradient", "GatherNDGradient", "Im2Col")
WITHOUT_CASE_KEYS = [
    *[("", n) for n in WITHOUT_CASE],
    *[("dlk", n) for n in (*OF_GRADIENTS, "CTCLoss", "CrossEntropy")],
]
"""Gradients that one-operator cases cannot reach, with the test that covers each."""


def test_operators_with_a_derivative_have_a_gradient() -> None:
    """What takes and gives floats changes with its inputs, unless a reason is listed."""
    from dlk import _core

    missing = []
    for op in _core.operators():
        if op["gradient"] or op["name"] in NOT_DIFFERENTIABLE:
            continue
        if op["domain"]:
            continue  # gradients themselves, and optimizers
        missing.append(op["name"])
    assert not missing, f"no gradient and no reason: {', '.join(missing)}"


INTEGERS = "it gives integers, truth values or sizes"
STEPS = "it rounds: the derivative is 0 almost everywhere"
NOT_DIFFERENTIABLE: dict[str, str] = {
    **dict.fromkeys(
        ("And", "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr",
         "BitwiseXor", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less",
         "LessOrEqual", "Not", "Or", "Shape", "Size", "Xor", "NonZero", "NonMaxSuppression"),
        INTEGERS,
    ),
    **dict.fromkeys(
        ("DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear", "ConvInteger",
         "MatMulInteger", "QLinearConv", "QLinearMatMul"),
        STEPS,
    ),
    **dict.fromkeys(
        ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
         "RandomUniformLike"),
        "what it draws does not change with its inputs",
    ),
    **dict.fromkeys(
        ("DeformConv", "MaxRoiPool", "RoiAlign", "TensorScatter"),
        "not yet: a rare operator of detectors and decoders; nothing in dlk.nn uses it",
    ),
    **dict.fromkeys(
        ("DFT", "STFT", "MelWeightMatrix"), "not yet: signal processing before a network"
    ),
    **dict.fromkeys(
        ("StringConcat", "StringSplit", "StringNormalizer", "RegexFullMatch", "LabelEncoder"),
        "its values are strings or what stands for them",
    ),
    **dict.fromkeys(("Compress", "Unique"), "the size of its result depends on data"),
    "Det": "not yet: needs the inverse of the matrix",
    "ConstantOfShape": "its input is a shape",
    "EyeLike": "its input is a shape",
    "Range": "its inputs are known before the run",
    "OneHot": "its inputs are indices; Where chooses between two values with a gradient",
    "GridSample": "not yet: the gradient by the grid needs a kernel of its own",
}  # fmt: skip


def test_judgement_catches_a_wrong_gradient(device: Any) -> None:
    """A gradient that is off by a thousandth must fail."""
    c = next(c for c in load_cases().values() if c.op == "Tanh")
    worst = max(abs(1.001 * d.got - d.want) / d.scale for d in differences(c, device))
    assert worst > TOLERANCE.bound
    assert np.isfinite(worst)
