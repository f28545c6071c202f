"""What a backend's parity.json says may be missing, hidden from the engine on purpose."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.subprocesses import ROOT, environment

from .expectations import lists


def test_parity(device_id: str) -> None:
    backend = device_id.split(":")[0]
    bits = list(lists(backend)["unsupported"])
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.missing_features", device_id],
        env=environment(DLK_HIDE_CAPS=",".join(bits)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert "WRONG" not in done.stdout, done.stdout[-6000:]
    counts = dict(word.split("=") for word in done.stdout.splitlines()[-1].split())
    for bit in bits:
        assert int(counts[bit]) > 0, f"nothing needs {bit}: take it out of the list"


@pytest.mark.parametrize("names", ["fp65", "fp64,nonsense"])
def test_hiding_what_is_not_there(names: str) -> None:
    code = "from dlk import _core; _core.open_device()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(DLK_HIDE_CAPS=names),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "DLK_HIDE_CAPS: there is no feature" in done.stderr
