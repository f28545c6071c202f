"""RNN, GRU and LSTM: directions, initial states, lengths, peepholes, clipping, activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..case import Array, Case, Tolerance, case, normal

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


def activation(name: str, alpha: float | None, beta: float | None) -> Callable[[Array], Array]:
    def pick(value: float | None, default: float) -> float:
        return default if value is None else value

    table: dict[str, Callable[[Array], Array]] = {
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "Tanh": np.tanh,
        "Relu": lambda x: np.maximum(x, 0),
        "Affine": lambda x: pick(alpha, 1) * x + pick(beta, 0),
        "LeakyRelu": lambda x: np.where(x < 0, pick(alpha, 0.01) * x, x),
        "ThresholdedRelu": lambda x: np.where(x > pick(alpha, 1), x, 0),
        "ScaledTanh": lambda x: pick(alpha, 1) * np.tanh(pick(beta, 1) * x),
        "HardSigmoid": lambda x: np.clip(pick(alpha, 0.2) * x + pick(beta, 0.5), 0, 1),
        "Elu": lambda x: np.where(x < 0, pick(alpha, 1) * np.expm1(x), x),
        "Softsign": lambda x: x / (1 + np.abs(x)),
        "Softplus": lambda x: np.log1p(np.exp(x)),
    }
    return table[name]


def one_direction(
    op: str,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None,
    h: Array,
    c: Array,
    p: Array | None,
    f: list[Callable[[Array], Array]],
    a: dict[str, Any],
) -> tuple[Array, Array, Array]:
    """One sequence: x (T, I), h and c (H). Returns all h, the last h and the last c."""
    n = h.shape[0]
    bw, br = (np.zeros(len(w)),) * 2 if b is None else np.split(b, 2)
    pi, po, pf = np.zeros((3, n)) if p is None else np.split(p, 3)
    clip = a.get("clip", np.inf)

    def act(k: int, v: Array) -> Array:
        return f[k](np.clip(v, -clip, clip))

    steps = []
    for xt in x:
        u = w @ xt + bw
        if op == "RNN":
            h = act(0, u + r @ h + br)
        elif op == "GRU":
            uz, ur, uh = np.split(u, 3)
            rz, rr, rh = np.split(r, 3)
            bz, bb, bh = np.split(br, 3)
            z, reset = act(0, uz + rz @ h + bz), act(0, ur + rr @ h + bb)
            if a.get("linear_before_reset"):
                fresh = act(1, uh + reset * (rh @ h + bh))
            else:
                fresh = act(1, uh + rh @ (reset * h) + bh)
            h = (1 - z) * fresh + z * h
        else:
            ui, uo, uf, uc = np.split(u + r @ h + br, 4)
            i = act(0, ui + pi * c)
            forget = 1 - i if a.get("input_forget") else act(0, uf + pf * c)
            c = forget * c + i * act(1, uc)
            h = act(0, uo + po * c) * act(2, c)
        steps.append(h)
    return np.array(steps).reshape(-1, n), h, c


def recurrent(op: str, a: dict[str, Any], *inputs: Array | None) -> tuple[Array, ...]:
    x, w, r, b, lengths, h0, c0, p = (*inputs, *(None,) * (8 - len(inputs)))
    assert x is not None
    assert w is not None
    assert r is not None
    first = a.get("layout", 0) == 1
    if first:
        x = x.transpose(1, 0, 2)
        h0, c0 = (None if s is None else s.transpose(1, 0, 2) for s in (h0, c0))
    times, batch, _ = x.shape
    directions, _, n = r.shape
    y = np.zeros((times, directions, batch, n))
    h, c = np.zeros((2, directions, batch, n))
    names = a.get("activations", DEFAULTS[op] * directions)
    alphas, betas = iter(a.get("activation_alpha", [])), iter(a.get("activation_beta", []))
    takes_alpha = ("Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu")
    takes_beta = ("Affine", "ScaledTanh", "HardSigmoid")
    functions = [
        activation(
            k,
            next(alphas, None) if k in takes_alpha else None,
            next(betas, None) if k in takes_beta else None,
        )
        for k in names
    ]
    per = len(DEFAULTS[op])
    for d in range(directions):
        for e in range(batch):
            length = times if lengths is None else int(lengths[e])
            xs = x[:length, e]
            backward = d == 1 or a.get("direction") == "reverse"
            hs, h[d, e], c[d, e] = one_direction(
                op,
                xs[::-1] if backward else xs,
                w[d],
                r[d],
                None if b is None else b[d],
                np.zeros(n) if h0 is None else h0[d, e],
                np.zeros(n) if c0 is None else c0[d, e],
                None if p is None else p[d],
                functions[d * per : (d + 1) * per],
                a,
            )
            y[:length, d, e] = hs[::-1] if backward else hs
    if first:
        y, h, c = y.transpose(2, 0, 1, 3), h.transpose(1, 0, 2), c.transpose(1, 0, 2)
    return (y, h, c) if op == "LSTM" else (y, h)


def add(
    op: str,
    name: str,
    sizes: tuple[int, int, int, int] = (5, 3, 4, 6),
    given: str = "",
    **a: Any,
) -> None:
    """`sizes`: time, batch, input, hidden. `given`: optional inputs, of b l h c p."""
    times, batch, inputs, n = sizes
    d = 2 if a.get("direction") == "bidirectional" else 1
    g = GATES[op]
    state = (batch, d, n) if a.get("layout") else (d, batch, n)

    def make(rng: np.random.Generator) -> dict[str, Array | None]:
        x = (batch, times, inputs) if a.get("layout") else (times, batch, inputs)
        result: dict[str, Array | None] = {
            "x": normal(rng, *x),
            "w": normal(rng, d, g * n, inputs, scale=0.5),
            "r": normal(rng, d, g * n, n, scale=0.5),
            "b": normal(rng, d, 2 * g * n) if "b" in given else None,
            "l": rng.integers(1, times + 1, batch).astype(np.int32) if "l" in given else None,
            "h": normal(rng, *state) if "h" in given else None,
        }
        if op == "LSTM":
            result["c"] = normal(rng, *state) if "c" in given else None
            result["p"] = normal(rng, d, 3 * n) if "p" in given else None
        return result

    case(
        Case(
            op=op,
            name=name,
            inputs=make,
            attributes={"hidden_size": n, **a},
            constants=("w", "r", "b", "p"),
            outputs=3 if op == "LSTM" else 2,
            oracle=lambda *i: recurrent(op, a, *i),
            layouts=("contiguous", "strided"),
            tolerance={
                "float16": Tolerance(4e-3, "inputs and weights round to 2^-11, over several steps")
            },
        )
    )


for op in GATES:
    add(op, "plain")
    add(op, "everything", given="blhcp", direction="bidirectional")
    add(op, "reverse_batch_first", given="bh", direction="reverse", layout=1)
    add(op, "bidirectional_batch_first", given="blhc", direction="bidirectional", layout=1)
    add(op, "one_step", sizes=(1, 1, 7, 5), given="b")
    add(op, "wide", sizes=(3, 2, 33, 67), given="bh")
    add(op, "clip", given="bhc", clip=0.4)
    add(op, "no_time", sizes=(0, 2, 4, 3), given="hc")
add("GRU", "linear_before_reset", given="bh", linear_before_reset=1)
add("GRU", "linear_before_reset_wide", sizes=(2, 2, 5, 70), given="bl", linear_before_reset=1)
add("LSTM", "input_forget", given="bp", input_forget=1)
add("LSTM", "peepholes", given="bhcp")
for name in ("Relu", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "Softsign"):
    add("RNN", name.lower(), given="bh", activations=[name])
for name in ("HardSigmoid", "Elu", "Softplus", "Sigmoid"):
    add("RNN", name.lower(), given="bh", activations=[name])
add(
    "GRU",
    "activation_factors",
    given="bh",
    activations=["HardSigmoid", "LeakyRelu", "Sigmoid", "ScaledTanh"],
    activation_alpha=[0.3, 0.2, 1.5],
    activation_beta=[0.4, 0.7],
    direction="bidirectional",
)
add(
    "LSTM",
    "other_activations",
    given="bhc",
    activations=["HardSigmoid", "Softsign", "Relu"],
    activation_alpha=[0.25],
    activation_beta=[0.55],
)
