"""The kernels that GPUs get (many work-items a group, local memory), on CPU drivers.

DLK_KERNEL_SHAPES=gpu makes the checked device of a CPU driver count as a GPU.
"""

from __future__ import annotations

from typing import Any

import pytest

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


def chosen() -> list[Variant]:
    result, seen = [], set()
    for variant in variants(iter(load_cases().values())):
        c = variant.case
        if c.op not in TILED and (c.op in seen or variant.dtype not in ("float32", "none")):
            continue
        if c.slow or variant.dtype in ("float64", "bfloat16"):
            continue
        seen.add(c.op)
        result.append(variant)
    return result


@pytest.fixture(scope="module")
def gpu_like(device_id: str) -> Any:
    from dlk import _core

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLK_KERNEL_SHAPES", "gpu")
        device = _core.open_device(device_id)
    assert not device.caps["is_cpu"]
    return device


@pytest.mark.parametrize("variant", chosen(), ids=lambda v: v.id)
def test_parity(gpu_like: Any, variant: Variant) -> None:
    outcome = run_variant(variant, gpu_like)
    assert not outcome.problem, outcome.problem
    bound = variant.case.tolerance_for(variant.dtype)
    assert outcome.relative <= bound.bound, f"{outcome.relative:.3g} > {bound.bound:.3g}"
