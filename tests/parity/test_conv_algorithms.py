"""Every algorithm for convolutions on every convolution case that it claims.

``DLK_CONV_ALGO`` forces one; a problem that it cannot compute takes the default, which the parity
suite holds to the same numbers.
"""

from __future__ import annotations

from typing import Any

import pytest

from .harness import Variant, load_cases, run_variant

BOUND = {
    "direct": 1.0, "block": 1.0, "gemm": 1.0, "winograd2": 4.0, "winograd4": 30.0, "fft": 4.0
}  # fmt: skip
"""Of a case's tolerance. Winograd's transforms add and subtract terms up to 5 (F(2,3): 1) and 8
times the operands', whose rounding stays in the smaller sums; a Fourier transform rounds relative
to the whole tile's norm, also where a result is small."""
FIVE = {"winograd2": BOUND["winograd4"]}
"""Of windows of 5: F(2,5) has the points of F(4,3)."""

CASES = [c for c in load_cases().values() if c.op == "Conv" and not c.slow]


@pytest.mark.parametrize("algorithm", BOUND)
def test_algorithm(device: Any, algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLK_CONV_ALGO", algorithm)
    wrong, count = [], 0
    for c in CASES:
        for layout in c.layouts if "float32" in c.dtypes else ():
            variant = Variant(c, "float32", layout)
            outcome = run_variant(variant, device)
            slack = (FIVE if c.name.endswith("k5_same") else BOUND).get(algorithm, BOUND[algorithm])
            bound = slack * c.tolerance_for("float32").bound
            if outcome.problem or not outcome.relative <= bound:
                wrong.append(f"{variant.id}: {outcome.problem or outcome.relative} > {bound}")
            count += 1
    assert not wrong, "\n".join(wrong)
    assert count > 30


TILE = "mma:64,64,32,1,1,4,4"
REFUSED = ["fast", "mma:64", "mma:1,2,3,4,5,6,x", "gemm:1,2,3,4,5,6,7", ":", f"{TILE}:stream",
           f"{TILE}:stream0", f"{TILE}:4:stream2", f"{TILE}:inside",
           "gemv:64,4", "gemv:96,4,2"]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_unknown_algorithms_are_refused(
    device: Any, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLK_CONV_ALGO", text)
    with pytest.raises(ValueError, match="DLK_CONV_ALGO"):
        run_variant(Variant(CASES[0], "float32", "contiguous"), device)
