"""Runs parity cases with the kernels that GPUs get (many work-items a group, local memory).

A program, because a process opens a device once: ``DLK_KERNEL_SHAPES=gpu python -m
tests.parity.gpu_shapes DEVICE PART PARTS``. Prints what is wrong; ends with the number of variants.
"""

from __future__ import annotations

import os
import sys

from .expectations import refusal_reason
from .harness import Variant, load_cases, run_variant, variants

TILED = (
    "ArgMax",
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "Einsum",
    "GRU",
    "Gemm",
    "InstanceNormalization",
    "LSTM",
    "LayerNormalization",
    "LogSoftmax",
    "MatMul",
    "RNN",
    "ReduceMax",
    "ReduceSum",
    "Softmax",
)
"""Operators with kernels of two shapes, on all their cases; of the others one small case each."""


def for_matrix_units() -> list[Variant]:
    """What kernels for matrix units may compute: products in 16 bits, and of integers."""
    every = variants(iter(load_cases().values()))
    products, halves = ("Conv", "Gemm", "MatMul"), ("float16", "bfloat16")
    integers = ("MatMulInteger", "QLinearMatMul", "ConvInteger", "QLinearConv")
    return [
        v for v in every
        if not v.case.slow
        and ((v.case.op in products and v.dtype in halves) or v.case.op in integers)
    ]  # fmt: skip


SLACK = {"winograd2": 4.0, "winograd4": 30.0, "fft": 4.0, "gemv": 1.0}
"""Of the tolerance, where DLK_CONV_ALGO forces one of these: test_conv_algorithms.py says why. In
float16 the transformed operands are rounded once more than the convolution's own."""

FIVE = {"winograd2": SLACK["winograd4"]}
"""Of windows of 5: F(2,5) has the points of F(4,3)."""


def for_one_algorithm() -> list[Variant]:
    every = variants(iter(load_cases().values()))
    return [
        v for v in every
        if v.case.op == "Conv" and v.dtype in ("float16", "float32") and not v.case.slow
    ]  # fmt: skip


def chosen() -> list[Variant]:
    if os.environ.get("DLK_CONV_ALGO"):
        return for_one_algorithm()
    if os.environ.get("DLK_MATRIX_UNITS") == "plain":
        return for_matrix_units()
    result, seen, wide = [], set(), set()
    for variant in variants(iter(load_cases().values())):
        c = variant.case
        if variant.dtype == "float64" and c.op not in wide and not c.slow:
            wide.add(c.op)
            result.append(variant)
            continue
        if c.op not in TILED and (c.op in seen or variant.dtype not in ("float32", "none")):
            continue
        if c.slow or variant.dtype in ("float64", "bfloat16"):
            continue
        seen.add(c.op)
        result.append(variant)
    return result


def main(device_id: str, part: int, parts: int) -> None:
    from dlk import _core

    device = _core.open_device(device_id)
    assert not device.caps["is_cpu"], "DLK_KERNEL_SHAPES=gpu is not set"
    todo = chosen()[part::parts]
    algorithm = os.environ.get("DLK_CONV_ALGO", "")
    for variant in todo:
        slack = SLACK.get(algorithm, 1.0)
        if algorithm in FIVE and variant.case.name.endswith("k5_same"):
            slack = FIVE[algorithm]
        try:
            outcome = run_variant(variant, device)
        except Exception as error:
            if isinstance(error, NotImplementedError) and refusal_reason(device.caps, str(error)):
                continue
            print(f"WRONG {variant.id}: {error!r}")
            continue
        bound = variant.case.tolerance_for(variant.dtype)
        if outcome.problem or outcome.relative > slack * bound.bound:
            print(f"WRONG {variant.id}: {outcome.problem or outcome.relative}")
    print(f"{len(todo)} variants")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
