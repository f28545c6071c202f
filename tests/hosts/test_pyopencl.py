"""Printed OpenCL C, run by pyopencl on any OpenCL device, against NumPy."""

from __future__ import annotations

from typing import Any

import pytest

from ..conftest import required_backends
from .kernels import CASES, HostCase, check
from .opencl_host import GUARD, run


@pytest.fixture(scope="module")
def context() -> Any:
    cl = pytest.importorskip("pyopencl")
    try:
        device = cl.get_platforms()[0].get_devices()[0]
    except (cl.LogicError, IndexError):
        if "opencl" in required_backends():
            raise
        pytest.skip("no OpenCL driver found")
    return cl.Context([device])


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_kernel(context: Any, case: HostCase) -> None:
    got, around = run(case, context)
    check(case, got)
    assert (around == GUARD).all(), "written outside of the output"
