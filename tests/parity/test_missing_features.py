"""What a backend's parity.json says may be missing, hidden from the engine on purpose."""

from __future__ import annotations

import pytest

from tests.subprocesses import run_cases, run_python

from .expectations import lists


def test_parity(device_id: str) -> None:
    backend = device_id.split(":")[0]
    bits = list(lists(backend)["unsupported"])
    printed = run_cases(
        "-m", "tests.parity.missing_features", device_id,
        timeout=300, DLK_HIDE_CAPS=",".join(bits),
    )  # fmt: skip
    counts = dict(word.split("=") for word in printed.splitlines()[-1].split())
    for bit in bits:
        assert int(counts[bit]) > 0, f"nothing needs {bit}: take it out of the list"


@pytest.mark.parametrize("names", ["fp65", "fp64,nonsense"])
def test_hiding_what_is_not_there(names: str) -> None:
    code = "from dlk import _core; _core.open_device()"
    done = run_python("-c", code, timeout=60, DLK_HIDE_CAPS=names)
    assert "DLK_HIDE_CAPS: there is no feature" in done.stderr
