"""``--passport PATH`` writes the parity passport after the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

_entries: list[dict[str, Any]] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        _entries.extend(value for key, value in report.user_properties if key == "parity")


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--passport", default=None)
    if path and _entries and not hasattr(session.config, "workerinput"):
        from dlk import _core

        from .passport import build, write

        seen = {e["device"] for e in _entries}
        write(build(_entries, [c for c in _core.list_devices() if c["id"] in seen]), Path(path))
