"""Sums in float16: only where they are asked for, refused where the device cannot, and how exact.

DLK_KERNEL_SHAPES=gpu and DLK_MATRIX_UNITS=plain run the kernels for matrix units in registers.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.subprocesses import run_cases


@pytest.mark.parametrize("units", ["0", "plain"])
def test_sums_in_float16(device: Any, device_id: str, units: str) -> None:
    printed = run_cases(
        "-m", "tests.parity.half_sums", device_id,
        timeout=600, DLK_KERNEL_SHAPES="gpu", DLK_MATRIX_UNITS=units,
    )  # fmt: skip
    kernels = json.loads(printed.splitlines()[-1])
    if not device.caps["fp16_arithmetic"]:
        assert not kernels
    elif units == "plain":
        assert {"conv_mma", "gemm_mma"} <= set(kernels)
    else:
        assert "conv_gemm" in kernels
        assert "conv_mma" not in kernels
