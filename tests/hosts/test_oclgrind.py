"""OpenCL kernels under oclgrind: no race, no access outside of a buffer; seeded ones are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from .simulator import complaints, run


def host(folder: Path, *arguments: str) -> str:
    """A printed kernel by pyopencl, which asks for device properties that oclgrind lacks."""
    return run(folder, "-m", "tests.hosts.opencl_host", *arguments, check_api=False)


@pytest.mark.parametrize("shapes", ["cpu", "gpu"])
def test_every_operator_is_free_of_races(tmp_path: Path, shapes: str) -> None:
    text = run(tmp_path, "-m", "tests.hosts.parity_on_device", shapes=shapes)
    assert not complaints(text), text[-6000:]
    assert "WRONG" not in text, text[-6000:]


@pytest.mark.parametrize("name", ["softmax_split1", "gemm_tile", "group_sum"])
def test_printed_kernels_are_free_of_races(tmp_path: Path, name: str) -> None:
    assert not complaints(host(tmp_path, name))


BARRIER = "barrier(CLK_LOCAL_MEM_FENCE);"


@pytest.mark.parametrize("name", ["softmax_split1", "gemm_tile", "group_sum"])
def test_a_missing_barrier_is_found(tmp_path: Path, name: str) -> None:
    text = host(tmp_path, name, BARRIER, ";")
    assert any("data race" in line for line in complaints(text)), text[-3000:]


def test_a_read_outside_of_a_buffer_is_found(tmp_path: Path) -> None:
    text = host(tmp_path, "pointwise", "A0[i]", "A0[i + n]")
    assert any("Invalid read" in line for line in complaints(text)), text[-3000:]


def test_a_write_outside_of_a_buffer_is_found(tmp_path: Path) -> None:
    text = host(tmp_path, "pointwise", "Y[i]", "Y[i + n]")
    assert any("Invalid write" in line for line in complaints(text)), text[-3000:]
