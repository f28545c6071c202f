"""The module map of dlk.h is one that clang takes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_clang_imports_the_module(tmp_path: Path) -> None:
    clang = next(filter(None, map(shutil.which, ("clang-19", "clang"))), None)
    assert clang, "clang is needed (Debian: clang)"
    source = tmp_path / "program.m"
    source.write_text("@import CDlk;\nint main(void) { return (int)dlk_device_count(); }\n")
    done = subprocess.run(
        [clang, "-fmodules", f"-fmodules-cache-path={tmp_path / 'cache'}", "-fsyntax-only",
         "-I", str(ROOT / "core" / "include"), str(source)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
