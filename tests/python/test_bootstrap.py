"""The set-up program: what it says where it cannot go on."""

from __future__ import annotations

import ast
import importlib
import runpy
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "scripts" / "bootstrap.py"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return lambda name: importlib.import_module(f"bootstrap_steps.{name}")


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 9), (3, 9, 2)])
def test_an_old_python_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], version: tuple[int, ...]
) -> None:
    ast.parse(PROGRAM.read_text("utf-8"), feature_version=(3, 4))
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(PROGRAM), run_name="__main__")
    assert "Python 3.10 or later is needed" in str(stopped.value.code)


def test_a_folder_that_cannot_be_written(steps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = steps("place")
    monkeypatch.setattr(place, "ROOT", Path("/proc"))  # nobody can make a file there
    with pytest.raises(steps("console").Failure, match="cannot write in /proc"):
        place.check_place(False)


def test_a_small_disk(steps: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place, usage = steps("place"), namedtuple("usage", "total used free")
    monkeypatch.setattr(place, "VENV", tmp_path / "none")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, 100 << 20))
    with pytest.raises(steps("console").Failure, match=r"0\.1 GiB of free space; about 1 GiB"):
        place.check_place(False)


def test_no_compiler(steps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = steps("environment")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(steps("console").Failure, match=r"no C\+\+ compiler.*install g\+\+"):
        environment.compiler()


def test_a_step_that_fails_shows_the_end_of_its_output(steps: Any, tmp_path: Path) -> None:
    console, log = steps("console"), tmp_path / "log"
    with pytest.raises(console.Failure, match=r"(?s)counting failed \(exit 3\).*line 39"):
        console.run(["sh", "-c", "seq -f 'line %g' 1 39; exit 3"], "counting", log)
    assert log.read_text().endswith("line 38\nline 39\n")


def test_errors_are_one_line(
    steps: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = importlib.import_module("bootstrap_steps")

    def full(for_tests: bool) -> None:
        raise OSError(28, "No space left on device", "/somewhere")

    monkeypatch.setattr(package, "check_place", full)
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", "build"])
    assert package.main("") == 1
    said = capsys.readouterr().err
    assert (
        said == "dlk: /somewhere: No space left on device; free some space, then run this again\n"
    )


def test_unpacked_drivers_are_found(
    steps: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drivers = steps("drivers")
    monkeypatch.setattr(drivers, "VENDORS", tmp_path / "vendors")
    library, files = tmp_path / "lib", tmp_path / "vulkan" / "icd.d"
    library.mkdir()
    files.mkdir(parents=True)
    (library / "libpocl.so.2.10.0").write_bytes(b"no library")
    (files / "lvp_icd.x86_64.json").write_text(
        '{"ICD": {"library_path": "/usr/lib/libvulkan_lvp.so", "api_version": "1.3"}}'
    )
    found = drivers.unpacked(library, files, ["pocl-opencl-icd", "mesa-vulkan-drivers"], str)
    icd = (Path(found["OCL_ICD_VENDORS"]) / "dlk-opencl.icd").read_text()
    assert icd == f"{library / 'libpocl.so.2.10.0'}\n"
    description = Path(found["VK_DRIVER_FILES"].split(":")[-1]).read_text()
    assert f'"{library / "libvulkan_lvp.so"}"' in description


@pytest.mark.parametrize("working", ["pocl-binary-distribution", "intel-opencl-rt", ""])
def test_the_last_resort_is_a_driver_that_runs(
    steps: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, working: str
) -> None:
    environment, drivers = steps("environment"), steps("drivers")
    packages = tmp_path / "lib" / "python3" / "site-packages"
    (packages / "pocl" / ".libs").mkdir(parents=True)
    (packages / "pocl" / ".libs" / "libpocl-1.so").touch()
    (tmp_path / "lib" / "libintelocl.so").touch()
    libraries = {"pocl-binary-distribution": "libpocl-1.so", "intel-opencl-rt": "libintelocl.so"}
    installed: list[str] = []

    def probe(command: list[str], env: dict[str, str], **_: Any) -> Any:
        (icd,) = Path(env["OCL_ICD_VENDORS"]).glob("dlk-*.icd")
        works = Path(icd.read_text().strip()).name == libraries.get(working)
        return subprocess.CompletedProcess(command, 0 if works else 1, "", "unknown target CPU")

    monkeypatch.setattr(drivers, "VENDORS", tmp_path / "vendors")
    monkeypatch.setattr(environment, "site_packages", lambda: packages)
    monkeypatch.setattr(environment, "pip", lambda names, title: installed.extend(names))
    monkeypatch.setattr(environment.subprocess, "run", probe)
    if not working:
        with pytest.raises(steps("console").Failure, match="ask the administrator"):
            environment.driver_from_pypi({})
        return
    vendors = environment.driver_from_pypi({})["OCL_ICD_VENDORS"]
    assert libraries[working] in (Path(vendors) / "dlk-opencl.icd").read_text()
    assert ("intel-opencl-rt" in installed) == (working == "intel-opencl-rt")
