"""Devices for all Python tests, and DLK_REQUIRE.

``DLK_REQUIRE=opencl,vulkan`` turns a missing device into a failure; without it, tests run on what
is there and a backend without a device is reported as skipped.
"""

from __future__ import annotations

import os
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest

# Compiling what is run often takes longer than tests run; those of chains ask for it.
os.environ.setdefault("DLK_CHAIN", "0")


def required_backends() -> list[str]:
    return [name for name in os.environ.get("DLK_REQUIRE", "").split(",") if name]


@lru_cache(maxsize=1)
def device_ids() -> tuple[str, ...]:
    """One device a backend: the first, or those named in DLK_TEST_DEVICES."""
    from dlk import _core

    chosen = os.environ.get("DLK_TEST_DEVICES")
    if chosen:
        return tuple(chosen.split(","))
    first: dict[str, str] = {}
    for caps in _core.list_devices():
        first.setdefault(caps["backend"], caps["id"])
    for name in required_backends():
        first.setdefault(name, f"{name}:0")
    return tuple(first.values())


@cache
def open_device(device_id: str) -> Any:
    """The opened device; raises where a required one is missing."""
    from dlk import _core

    return _core.open_device(device_id)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device_id" in metafunc.fixturenames:
        ids = device_ids()
        if not ids:
            ids = (pytest.param("none", marks=pytest.mark.skip(reason="no GPU driver found")),)
        metafunc.parametrize("device_id", ids, scope="session")


@pytest.fixture(scope="session")
def device(device_id: str) -> Any:
    """An open device, checked; one test run for each."""
    return open_device(device_id)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--passport", metavar="PATH", help="write the parity passport (JSON and HTML)")


_parity_results: list[dict[str, Any]] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collects what parity tests found, in the process that runs the others (xdist)."""
    if report.when == "call":
        _parity_results.extend(value for key, value in report.user_properties if key == "parity")


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--passport", default=None)
    if path and _parity_results and not hasattr(session.config, "workerinput"):
        from dlk import _core

        from .parity.passport import build, write

        seen = {e["device"] for e in _parity_results}
        devices = [c for c in _core.list_devices() if c["id"] in seen]
        write(build(_parity_results, devices), Path(path))
