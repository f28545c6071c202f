"""The onnx package's backend tests, all of them, on every device."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import open_device
from ..parity.expectations import refusal_reason
from .backend import names_of_tests, tests_of
from .expected_failures import GROUPS, expected_failure
from .families import family_of

PAGE = Path(__file__).parents[2] / "docs" / "onnx-coverage.md"


@pytest.mark.parametrize("name", names_of_tests())
def test_onnx(name: str, device_id: str, request: pytest.FixtureRequest) -> None:
    reason = expected_failure(name, device_id)
    if reason:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    try:
        tests_of(device_id)[name][1](None)
    except NotImplementedError as error:
        # A device may refuse what its backend's parity.json says, and nothing else.
        if reason or refusal_reason(open_device(device_id).caps, str(error)) is None:
            raise


def test_groups_name_tests() -> None:
    for group in GROUPS:
        for pattern in group.patterns:
            one = type(group)(group.reason, (pattern,))
            assert any(one.matches(name) for name in names_of_tests()), pattern


def test_the_page_lists_every_operator() -> None:
    text = PAGE.read_text(encoding="utf-8")
    families = {family_of(name) for name in names_of_tests()}
    assert not [family for family in families if f"| {family} |" not in text]
    assert not [group.reason for group in GROUPS if group.reason not in text]
