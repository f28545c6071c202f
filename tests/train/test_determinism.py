"""The same seed gives the same bits: in one process, in another, by the kernels of CPU drivers and
by those of GPUs. Every gradient kernel is run twice by tests/parity/gradients.py too."""

from __future__ import annotations

import pytest

from tests.subprocesses import run_python


@pytest.mark.parametrize("shapes", ["own", "gpu"])
def test_the_same_seed_gives_the_same_bits(device_id: str, shapes: str) -> None:
    changes = {"DLK_KERNEL_SHAPES": "gpu"} if shapes == "gpu" else {}
    digests = []
    for _ in range(2):
        done = run_python(
            "-m", "tests.train.deterministic_steps", device_id, timeout=600, **changes
        )
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
        assert "DIFFERENT" not in done.stdout, done.stdout[-3000:]
        digests.append(done.stdout.split()[-1])
    assert digests[0] == digests[1]
    assert len(digests[0]) == 64
