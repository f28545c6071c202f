"""The environment in which a test starts a Python program that uses dlk.

The program finds the dlk that this process runs, installed or in the source tree, and the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dlk

ROOT = Path(__file__).resolve().parents[1]


def environment(**changes: str) -> dict[str, str]:
    """``os.environ`` with ``changes``; PYTHONPATH leads to this process's dlk and to ``tests``."""
    path = [str(Path(dlk.__file__).resolve().parents[1]), str(ROOT)]
    inherited = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*path, *([inherited] if inherited else [])]),
        **changes,
    }


def run_python(*arguments: str, timeout: float, **changes: str) -> subprocess.CompletedProcess[str]:
    """Runs this Python with `arguments` in the repository's root; what it prints is kept."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(**changes),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_cases(*arguments: str, timeout: float, **changes: str) -> str:
    """What a program of `run_python` prints that compares cases, and calls none of them WRONG."""
    done = run_python(*arguments, timeout=timeout, **changes)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert "WRONG" not in done.stdout, done.stdout[-6000:]
    return done.stdout
