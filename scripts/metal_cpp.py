#!/usr/bin/env python3
"""Puts Apple's metal-cpp headers into a folder: ``python scripts/metal_cpp.py FOLDER``.

They come from the macOS wheel of PyPI's ``mlx-metal``, fetched by hash with pip. Does nothing where
the folder has them already. Set ``DLK_METAL_CPP_DIR`` to use a copy of your own instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

DISTRIBUTION = "mlx-metal==0.32.4"
PLATFORM = "macosx_14_0_arm64"
SHA256 = "8019b2db622599267d66cc168b2f0dbf5af929790a6c3b3913e00eabc42a7947"
INSIDE = "mlx/include/metal_cpp/"
PARTS = ("Foundation/", "Metal/", "LICENSE.txt")


def download(folder: Path) -> Path:
    """The wheel, checked against its hash.

    Raises:
        RuntimeError: pip failed; the message is its own.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{DISTRIBUTION} --hash=sha256:{SHA256}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet",
         "--no-deps", "--only-binary=:all:", "--platform", PLATFORM, "--require-hashes",
         "--dest", str(folder), "--requirement", str(requirements)],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"pip cannot download {DISTRIBUTION}:\n{done.stdout}{done.stderr}")
    return next(folder.glob("*.whl"))


def unpack(wheel: Path, folder: Path) -> None:
    """Extracts the headers that dlk uses, and their licence, to a new folder."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            inner = name.removeprefix(INSIDE)
            if inner == name or name.endswith("/") or not inner.startswith(PARTS):
                continue
            target = folder / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))


def provide(folder: Path) -> Path:
    """The folder, filled if it was not yet; ``DLK_METAL_CPP_DIR`` instead where it is set."""
    chosen = os.environ.get("DLK_METAL_CPP_DIR")
    if chosen:
        folder = Path(chosen)
    elif not (folder / "Metal" / "Metal.hpp").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            fresh = Path(scratch) / "headers"
            unpack(download(Path(scratch)), fresh)
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
    if not (folder / "Metal" / "Metal.hpp").exists():
        raise RuntimeError(f"{folder} has no Metal/Metal.hpp")
    return folder


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(provide(Path(sys.argv[1])))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
