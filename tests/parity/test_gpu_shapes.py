"""The kernels that GPUs get, on CPU drivers.

DLK_KERNEL_SHAPES=gpu makes the checked device of a CPU driver count as a GPU.
"""

from __future__ import annotations

import pytest

from tests.subprocesses import run_cases

from .gpu_shapes import SLACK

PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_parity(device_id: str, part: int) -> None:
    run(device_id, part, PARTS, "0", 100)


def test_matrix_units(device_id: str) -> None:
    """The kernels for matrix units, with registers in the units' place."""
    run(device_id, 0, 1, "plain", 140)


@pytest.mark.parametrize("algorithm", SLACK)
def test_convolution(device_id: str, algorithm: str) -> None:
    """Winograd's products and Fourier transforms in the form that GPUs get."""
    run(device_id, 0, 1, "plain", 120, DLK_CONV_ALGO=algorithm)


def test_slices_summed_inside(device_id: str) -> None:
    """Groups that share the depth of a tile, the last of which adds the others' sums to its own."""
    run(device_id, 0, 3, "plain", 40, DLK_CONV_ALGO="mma:32,64,32,2,1,4,4,1:inside4")


def test_stream(device_id: str) -> None:
    """Groups that share the steps of all tiles and finish each other's, in float16 and float32."""
    run(device_id, 0, 3, "plain", 40, DLK_CONV_ALGO="mma:32,64,32,1,1,4,4:stream3")


def test_few_rows(device_id: str) -> None:
    """Matrix-vector products, of images that lie channels-last too, pools that end a graph, and
    first layers."""
    printed = run_cases("-m", "tests.parity.few_rows", device_id, timeout=600,
                        DLK_KERNEL_SHAPES="gpu", DLK_MATRIX_UNITS="plain")  # fmt: skip
    assert int(printed.split()[-2]) >= 120, printed


def run(device_id: str, part: int, parts: int, units: str, least: int, **settings: str) -> None:
    printed = run_cases(
        "-m", "tests.parity.gpu_shapes", device_id, str(part), str(parts),
        timeout=900, DLK_KERNEL_SHAPES="gpu", DLK_MATRIX_UNITS=units,
        **settings,
    )  # fmt: skip
    assert int(printed.split()[-2]) >= least, printed
