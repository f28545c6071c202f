"""The kernels that GPUs get, on CPU drivers.

DLK_KERNEL_SHAPES=gpu makes the checked device of a CPU driver count as a GPU.
"""

from __future__ import annotations

import pytest

from tests.subprocesses import run_python

PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_parity(device_id: str, part: int) -> None:
    run(device_id, part, PARTS, "0", 100)


def test_matrix_units(device_id: str) -> None:
    """The kernels for matrix units, with registers in the units' place."""
    run(device_id, 0, 1, "plain", 80)


def run(device_id: str, part: int, parts: int, units: str, least: int) -> None:
    done = run_python(
        "-m", "tests.parity.gpu_shapes", device_id, str(part), str(parts),
        timeout=900, DLK_KERNEL_SHAPES="gpu", DLK_MATRIX_UNITS=units,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert "WRONG" not in done.stdout, done.stdout[-6000:]
    assert int(done.stdout.split()[-2]) >= least, done.stdout
