"""Node tests of built operators that fail, with the reason. Strict: one that passes is an error.

The key "*" is for every device; others are for the devices of one backend.
"""

from __future__ import annotations

_DRAWN = "expects the numbers that NumPy's generator drew; dlk draws by Philox"
_WRAPS = "expects results beyond int8 to wrap; the operator's text says that they saturate"
_NOISE = "expects the rounding errors of NumPy's FFT, with a tolerance of 1e-7 around 0"

FAILURES: dict[str, dict[str, str]] = {
    "*": {
        "test_adam_multiple": "expects epsilon=1e-2, which its node does not say",
        **{
            f"test_bernoulli{a}{b}": _DRAWN
            for a in ("", "_double", "_seed")
            for b in ("", "_expanded")
        },
        **{f"test_training_dropout{a}": _DRAWN for a in ("", "_default", "_default_mask", "_mask")},
        **{f"test_qlinearmatmul_{d}D_int8_float{b}": _WRAPS for d in (2, 3) for b in (16, 32)},
        **{f"test_dft_inverse{a}": _NOISE for a in ("", "_opset19")},
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
