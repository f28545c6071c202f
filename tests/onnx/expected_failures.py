"""Backend tests that fail, in groups with a reason each. Strict: one that passes is an error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Group:
    """Tests that fail for one reason, on all devices or on those of one backend."""

    reason: str
    patterns: tuple[str, ...]  # whole names, as regular expressions
    backend: str = "*"


GROUPS: tuple[Group, ...] = ()


@cache
def expected_failure(name: str, device_id: str) -> str:
    """Why a test is expected to fail on a device; "" where it should pass."""
    backend = device_id.partition(":")[0]
    for group in GROUPS:
        if group.backend in ("*", backend) and any(re.fullmatch(p, name) for p in group.patterns):
            return group.reason
    return ""
