"""Node tests of built operators that fail, with the reason. Strict: one that passes is an error.

The key "*" is for every device; others are for the devices of one backend.
"""

from __future__ import annotations

FAILURES: dict[str, dict[str, str]] = {
    "*": {},
    "opencl": {},
    "vulkan": {},
}


def expected_failure(name: str, device_id: str) -> str | None:
    """Why a test is expected to fail on a device; None where it should pass."""
    backend = device_id.partition(":")[0]
    for key in ("*", backend):
        if name in FAILURES.get(key, {}):
            return FAILURES[key][name]
    return None
