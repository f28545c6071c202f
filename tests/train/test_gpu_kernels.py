"""Gradients by the kernels that GPUs get: on GPUs, and on CPU drivers that count as GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.subprocesses import run_cases

from . import gpu_kernels


@pytest.mark.parametrize("units", ["0", "plain"])
def test_gradients(device_id: str, units: str) -> None:
    """`plain`: the kernels for matrix units, with registers in the units' place."""
    printed = run_cases(
        "-m", "tests.train.gpu_kernels", device_id,
        timeout=900, DLK_KERNEL_SHAPES="gpu", DLK_MATRIX_UNITS=units,
    )  # fmt: skip
    assert int(printed.split()[-2]) >= 4 * len(gpu_kernels.PROBLEMS)


def test_gradients_on_this_device(device: Any) -> None:
    """The device's own kernels, matrix units included."""
    for problem in gpu_kernels.PROBLEMS:
        for name, value in gpu_kernels.conv_errors(problem, device, "float32").items():
            assert value <= gpu_kernels.BOUNDS["float32"], (name, value, problem)
        if device.caps["fp16_storage"]:
            for name, value in gpu_kernels.conv_errors(problem, device, "float16").items():
                assert value <= gpu_kernels.BOUNDS["float16"], (name, value, problem)
    for shape in gpu_kernels.NORMS:
        for name, value in gpu_kernels.norm_errors(shape, device, "float32").items():
            assert value <= gpu_kernels.BOUNDS["float32"], (name, value, shape)
    for indices, rows in gpu_kernels.GATHERS:
        for name, value in gpu_kernels.gather_errors(indices, rows, device, "float32").items():
            assert value <= gpu_kernels.BOUNDS["float32"], (name, value, indices, rows)
