"""Node tests of built operators that fail, with the reason. Strict: one that passes is an error.

The key "*" is for every device; others are for the devices of one backend.
"""

from __future__ import annotations

_TRAINING = "training mode of Dropout: dlk runs graphs for inference, and says so"

FAILURES: dict[str, dict[str, str]] = {
    "*": {
        "test_training_dropout": _TRAINING,
        "test_training_dropout_default": _TRAINING,
        "test_training_dropout_default_mask": _TRAINING,
        "test_training_dropout_mask": _TRAINING,
    },
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
