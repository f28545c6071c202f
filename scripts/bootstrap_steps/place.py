"""Where things go, and whether they can."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from .console import Failure

__all__ = ["DEPS", "ROOT", "VENV", "check_place"]

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
DEPS = ROOT / ".deps"

NEEDED_BYTES = {False: 1 << 30, True: 6 << 30}
"""Environment, build and caches; with the tests also PyTorch and the test build."""


def check_place(for_tests: bool) -> None:
    """Fails early where the checkout cannot be written or the disk is too small."""
    try:
        with tempfile.TemporaryFile(dir=ROOT):
            pass
    except OSError as error:
        raise Failure(
            f"cannot write in {ROOT} ({error.strerror}): the environment and the build go there; "
            "clone into a folder of your own"
        ) from None
    if VENV.exists() and not os.access(VENV, os.W_OK):
        raise Failure(f"cannot write in {VENV}: it belongs to somebody else; remove it")
    needed = NEEDED_BYTES[for_tests]
    free = shutil.disk_usage(ROOT).free
    if free < needed and not VENV.exists():
        raise Failure(
            f"{ROOT} has {free / 2**30:.1f} GiB of free space; about {needed / 2**30:.0f} GiB are "
            "needed: free some, or clone to another disk"
        )
