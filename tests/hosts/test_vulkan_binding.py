"""Printed GLSL as SPIR-V, run by the PyPI ``vulkan`` binding, against NumPy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..conftest import required_backends
from .kernels import CASES, HostCase, check
from .vulkan_host import GUARD, Host


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    try:
        made = Host()
    except Exception:
        if "vulkan" in required_backends():
            raise
        pytest.skip("no Vulkan driver found, or no Python binding")
    yield made
    made.close()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_kernel(host: Host, case: HostCase) -> None:
    got, around = host.run(case)
    check(case, got)
    assert (around == GUARD).all(), "written outside of the output"
