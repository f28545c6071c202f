"""The source distribution, and so the wheel, leaves no file out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import dlk
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("python", "core", "backends", "kernels", "cmake", "tests/parity")


def tracked() -> set[str]:
    """The repository's files in FOLDERS; pytest.skip where there is no checkout."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout to compare with")
    done = subprocess.run(
        ["git", "ls-files", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_source_distribution_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("scikit_build_core")
    code = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True, capture_output=True
    )
    (archive,) = tmp_path.glob("dlk_engine-*.tar.gz")
    assert archive.name == f"dlk_engine-{dlk.__version__}.tar.gz"
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    missing = tracked() - names
    assert not missing, f"left out of the package: {', '.join(sorted(missing))}"


def test_the_version_is_in_one_place() -> None:
    assert (ROOT / "VERSION").read_text().strip() == dlk.__version__


def test_every_module_can_be_imported() -> None:
    """Also those that nothing imports at the top."""
    package = Path(dlk.__file__).parent
    modules = sorted(
        os.fspath(path.relative_to(package).with_suffix("")).replace(os.sep, ".")
        for path in package.rglob("*.py")
        if path.stem not in ("__main__", "__init__") and "_parity" not in path.parts
    )
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module('dlk.' + name)"
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
