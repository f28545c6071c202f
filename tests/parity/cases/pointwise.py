"""Pointwise functions of one floating tensor, a row each.

Every row gives a case on odd sizes in all layouts and floating dtypes, one on NaN, infinities,
zeros and large values, one on a scalar and one on an empty tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..case import Array, Case, Tolerance, case, uniform

LAYOUTS = ("contiguous", "strided", "channels_last")
FLOATS = ("float32", "float16", "bfloat16", "float64")
SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e-3, -30.0, 200.0]
)

IN_FLOAT32 = {"float64": Tolerance(5e-6, "float functions are computed in 32 bits")}

erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def softplus(x: Array) -> Array:
    return np.asarray(np.where(np.isnan(x), x, np.logaddexp(x, 0)))


def gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


def shrink(x: Array, lambd: float, bias: float) -> Array:
    return np.asarray(np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)))


@dataclass(frozen=True)
class Row:
    op: str
    oracle: Callable[[Array], Any]
    low: float = -3.0
    high: float = 3.0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    """Prefix of the cases' names, where an operator has several rows."""
    plain: bool = False
    """Computed in float64 for float64 inputs."""
    exact: bool = False
    special: Array | None = field(default_factory=lambda: SPECIAL)
    """Inputs of the special case; None for none."""


def _selu(x: Array, alpha: float, gamma: float) -> Array:
    return np.asarray(gamma * np.where(x > 0, x, alpha * np.expm1(x)))


ROWS = [
    Row("Abs", np.abs, plain=True, exact=True),
    Row("Acos", np.arccos, -1, 1),
    Row("Acosh", np.arccosh, 1, 9),
    Row("Asin", np.arcsin, -1, 1),
    Row("Asinh", np.arcsinh, -9, 9),
    Row("Atan", np.arctan, -9, 9),
    Row("Atanh", np.arctanh, -0.99, 0.99),
    Row("Ceil", np.ceil, -9, 9, exact=True),
    Row("Celu", lambda x: np.maximum(x, 0) + np.minimum(0, np.expm1(x))),
    Row(
        "Celu",
        lambda x: np.where(x > 0, x, 0.7 * np.expm1(x / 0.7)),
        attributes={"alpha": 0.7},
        name="alpha_",
    ),
    Row("Cos", np.cos, -9, 9),
    Row("Cosh", np.cosh),
    Row("Elu", lambda x: np.where(x > 0, x, np.expm1(x))),
    Row(
        "Elu", lambda x: np.where(x > 0, x, 1.7 * np.expm1(x)), attributes={"alpha": 1.7}, name="a_"
    ),
    Row("Erf", erf),
    Row("Exp", np.exp, -6, 6),
    Row("Floor", np.floor, -9, 9, exact=True),
    Row("Gelu", lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2)))),
    # At -inf the formula is -inf * (1 + tanh(-inf)): NaN, or -inf where tanh is a unit off.
    Row(
        "Gelu",
        gelu_tanh,
        attributes={"approximate": "tanh"},
        name="tanh_",
        special=SPECIAL[~np.isneginf(SPECIAL)],
    ),
    Row("HardSigmoid", lambda x: np.clip(0.2 * x + 0.5, 0, 1), -5, 5),
    Row(
        "HardSigmoid",
        lambda x: np.clip(0.4 * x + 0.3, 0, 1),
        attributes={"alpha": 0.4, "beta": 0.3},
        name="both_",
    ),
    Row(
        "HardSwish",
        lambda x: np.where(x <= -3, 0, np.where(x >= 3, x, x * (x + 3) / 6)),
        -5,
        5,
    ),
    Row("LeakyRelu", lambda x: np.where(x < 0, 0.01 * x, x)),
    Row(
        "LeakyRelu", lambda x: np.where(x < 0, 0.3 * x, x), attributes={"alpha": 0.3}, name="alpha_"
    ),
    Row("Log", np.log, 0.01, 20),
    Row("Mish", lambda x: x * np.tanh(softplus(x))),
    Row("Neg", np.negative, plain=True, exact=True),
    Row("Reciprocal", lambda x: 1 / x, 0.3, 5, plain=True),
    Row("Relu", lambda x: np.maximum(x, 0), plain=True, exact=True),
    Row("Round", np.rint, -9, 9, exact=True),
    Row("Selu", lambda x: _selu(x, 1.6732632423543772, 1.0507009873554805)),
    Row(
        "Selu",
        lambda x: _selu(x, 2.0, 3.0),
        attributes={"alpha": 2.0, "gamma": 3.0},
        name="both_",
    ),
    Row("Shrink", lambda x: shrink(x, 0.5, 0.0), exact=True),
    Row(
        "Shrink",
        lambda x: shrink(x, 1.5, 0.25),
        attributes={"lambd": 1.5, "bias": 0.25},
        name="bias_",
    ),
    Row("Sigmoid", sigmoid, -8, 8),
    Row("Sign", np.sign, plain=True, exact=True),
    Row("Sin", np.sin, -9, 9),
    Row("Sinh", np.sinh),
    Row("Softplus", softplus, -8, 8),
    Row("Softsign", lambda x: x / (1 + np.abs(x)), -8, 8),
    Row("Sqrt", np.sqrt, 0, 9),
    Row("Swish", lambda x: x * sigmoid(x), -8, 8),
    Row("Swish", lambda x: x * sigmoid(1.7 * x), attributes={"alpha": 1.7}, name="alpha_"),
    Row("Tan", np.tan, -1.3, 1.3),
    Row("Tanh", np.tanh, -4, 4),
    Row("ThresholdedRelu", lambda x: np.where(x > 1, x, 0), exact=True),
    Row(
        "ThresholdedRelu",
        lambda x: np.where(x > 0.5, x, 0),
        attributes={"alpha": 0.5},
        name="alpha_",
        special=None,
    ),
]

TO_BOOL = [
    Row("IsNaN", np.isnan),
    Row("IsInf", np.isinf),
    Row("IsInf", np.isposinf, attributes={"detect_negative": 0}, name="positive_"),
    Row("IsInf", np.isneginf, attributes={"detect_positive": 0}, name="negative_"),
    Row(
        "IsInf",
        lambda x: np.zeros(x.shape, bool),
        attributes={"detect_positive": 0, "detect_negative": 0},
        name="neither_",
    ),
]


def add(row: Row) -> None:
    tolerance = {} if row.plain else IN_FLOAT32
    common: dict[str, Any] = {
        "op": row.op,
        "oracle": row.oracle,
        "attributes": row.attributes,
        "tolerance": tolerance,
    }
    exact = row.exact
    case(
        Case(
            name=f"{row.name}odd",
            inputs=lambda rng: {"x": uniform(rng, row.low, row.high, 3, 5, 7, 11)},
            layouts=LAYOUTS,
            dtypes=FLOATS if row.plain or not exact else FLOATS[:3],
            exact=exact,
            **common,
        )
    )
    if exact and not row.plain:
        case(
            Case(
                name=f"{row.name}double",
                inputs=lambda rng: {"x": uniform(rng, row.low, row.high, 3, 5, 7, 11)},
                dtypes=("float64",),
                **common,
            )
        )
    if row.special is not None:
        case(
            Case(
                name=f"{row.name}special",
                inputs=lambda rng: {"x": row.special},
                exact=exact,
                **common,
            )
        )
    for name, shape in (("scalar", ()), ("empty", (2, 0, 3))):
        case(
            Case(
                name=f"{row.name}{name}",
                inputs=lambda rng, s=shape: {"x": uniform(rng, row.low, row.high, *s)},
                exact=exact,
                dtypes=("float32",),
                **common,
            )
        )


for _row in ROWS:
    add(_row)

for _row in TO_BOOL:
    for _dtypes, _name in ((("float32", "float16", "bfloat16"), ""), (("float64",), "double_")):
        case(
            Case(
                op=_row.op,
                name=f"{_row.name}{_name}special",
                inputs=lambda rng: {"x": np.resize(SPECIAL, (3, 5, 7))},
                oracle=_row.oracle,
                attributes=_row.attributes,
                dtypes=_dtypes,
                layouts=LAYOUTS if not _name else ("contiguous",),
                exact=True,
            )
        )
