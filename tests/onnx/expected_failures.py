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

    def matches(self, name: str) -> bool:
        """Whether a test belongs to the group."""
        return any(re.fullmatch(pattern, name) for pattern in self.patterns)


GROUPS: tuple[Group, ...] = (
    Group(
        "expects the numbers that NumPy's generator drew; dlk draws by Philox",
        (
            r"test_bernoulli(_double|_seed)?(_expanded)?",
            r"test_training_dropout(_default)?(_mask)?",
        ),
    ),
    Group(
        "expects results beyond int8 to wrap, where the operator's text says that they saturate",
        (r"test_qlinearmatmul_[23]D_int8_float(16|32)",),
    ),
    Group(
        "a sequence with a scalar in it, which the suite's own comparison cannot compare",
        (r"test_loop16_seq_none",),
    ),
    Group(
        "decodes picture files, which is no work for a GPU; `dlk.images` reads pictures",
        (r"test_image_decoder_decode_.*",),
    ),
    Group(
        "expects the rounding errors of NumPy's FFT, with a tolerance of 1e-7 around 0",
        (r"test_dft_inverse(_opset19)?",),
    ),
    Group(
        "expects epsilon=1e-2, which its node does not say (the default is 1e-6)",
        (r"test_adam_multiple",),
    ),
)


@cache
def expected_failure(name: str, device_id: str) -> str:
    """Why a test is expected to fail on a device; "" where it should pass."""
    backend = device_id.partition(":")[0]
    for group in GROUPS:
        if group.backend in ("*", backend) and group.matches(name):
            return group.reason
    return ""
