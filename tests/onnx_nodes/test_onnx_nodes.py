"""The onnx package's node tests of all operators that are built, on every device."""

from __future__ import annotations

from typing import Any

import pytest

from .cases import all_cases, check, run_cases
from .expected_failures import FAILURES, expected_failure


@pytest.mark.parametrize("name", run_cases())
def test_node(name: str, device: Any, device_id: str, request: pytest.FixtureRequest) -> None:
    reason = expected_failure(name, device_id)
    if reason is not None:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    check(name, device)


def test_expected_failures_are_run() -> None:
    names = set(run_cases())
    for failures in FAILURES.values():
        assert set(failures) <= names


def test_the_suite_is_there() -> None:
    assert len(all_cases()) > 1600
