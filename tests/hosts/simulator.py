"""Runs programs on oclgrind, which checks every access of every work-item of an OpenCL kernel.

Its driver is put in the place of the machine's, so that dlk itself runs on it. Optimization is off
there: oclgrind 21 knows few of LLVM's intrinsics.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.subprocesses import ROOT, environment

COMPLAINTS = ("data race", "Invalid read", "Invalid write", "OCLGRIND", "runtime error", "Error:")


def driver() -> Path:
    """oclgrind's driver; a test skips where it is not installed, and fails in CI."""
    program = shutil.which("oclgrind")
    found = (
        sorted(Path(program).resolve().parents[1].rglob("liboclgrind-rt-icd.so")) if program else []
    )
    if found:
        return found[0]
    if os.environ.get("CI") == "true":
        pytest.fail("oclgrind is not installed (Debian: oclgrind)")
    pytest.skip("oclgrind is not installed (Debian: oclgrind)")


def run(folder: Path, *arguments: str, shapes: str = "cpu", check_api: bool = True) -> str:
    """Runs ``python arguments`` on oclgrind; what it printed. Fails where it does not end well."""
    (folder / "oclgrind.icd").write_text(f"{driver()}\n")
    checks = {"OCLGRIND_CHECK_API": "1"} if check_api else {}
    env = environment(
        OCL_ICD_VENDORS=f"{folder}/",
        OCLGRIND_DATA_RACES="1",
        OCLGRIND_BUILD_OPTIONS="-cl-opt-disable",
        DLK_KERNEL_SHAPES=shapes,
        DLK_CACHE="0",
        PYOPENCL_NO_CACHE="1",
        DLK_REQUIRE="opencl",
        **checks,
    )
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-4000:]
    assert "Oclgrind" in text, f"did not run on oclgrind:\n{text[-2000:]}"
    return text


def complaints(text: str) -> list[str]:
    """The lines in which oclgrind found fault."""
    return [line for line in text.splitlines() if any(c in line for c in COMPLAINTS)]
