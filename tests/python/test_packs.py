"""Kernel packs: first starts take compiled kernels from a file, and only their own."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import dlk
import numpy as np
import pytest
from dlk import _core, packs

from tests.subprocesses import run_python

from .command import call, fails
from .nets import dense, pair

VULKAN = any(device.backend == "vulkan" for device in dlk.devices())
needs_vulkan = pytest.mark.skipif(not VULKAN, reason="needs a Vulkan driver")
RNG = np.random.default_rng(5)
ANSWER = """
import json, sys
import numpy as np, dlk
from dlk import _core
model = dlk.Model(_core.load_dlk(sys.argv[1]), "vulkan")
x = np.arange(12, dtype=np.float32).reshape(2, 6)
answer = {n: y.tolist() for n, y in model.run({n: x[:, :s.shape[-1]] for n, s in
                                               model.inputs.items()}).items()}
print(json.dumps([answer, _core.kernel_stats(model.device.handle), list(_core.phase_times())]))
"""


def answer(
    model: Path, cache: Path, pack: Path | str, package: Path = Path(dlk.__file__).parent
) -> tuple[Any, dict[str, int], list[str], str]:
    """Of a new process with a cache folder: outputs, kernel_stats, phases and what it said."""
    program = f"import sys\nsys.path.insert(0, {str(package.resolve().parent)!r})\n{ANSWER}"
    done = run_python(
        "-c", program, str(model), timeout=120,
        DLK_CACHE_DIR=str(cache), DLK_KERNEL_PACKS=str(pack), DLK_CACHE="1", DLK_LOG="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outputs, stats, phases = json.loads(done.stdout)
    return outputs, stats, phases, done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model file and the pack of its kernels."""
    folder = tmp_path_factory.mktemp("packs")
    _core.save_dlk(dense(), str(folder / "dense.dlk"))
    recorded = folder / "recorded"
    failures = packs.run_networks(
        recorded, [str(folder / "dense.dlk")], ["vulkan"], ["float32"], jobs=1, seconds=120
    )
    assert failures == []
    packs.write_pack(folder / "dense.pack", packs.recorded(recorded))
    return folder / "dense.dlk", folder / "dense.pack"


def test_vulkan_is_there() -> None:
    assert VULKAN or "vulkan" not in os.environ.get("DLK_REQUIRE", "").split(",")


def test_round_trip(tmp_path: Path) -> None:
    kernels = {f"{i:032x}": RNG.bytes(i * 97) + b"mov" * i * i for i in (0, 1, 5, 300)}
    kernels["f" * 32] = kernels[f"{5:032x}"]
    packs.write_pack(tmp_path / "a.pack", kernels)
    assert packs.read_pack(tmp_path / "a.pack") == kernels
    packs.write_pack(tmp_path / "b.pack", dict(reversed(kernels.items())))
    assert (tmp_path / "a.pack").read_bytes() == (tmp_path / "b.pack").read_bytes()


@needs_vulkan
def test_a_first_start_takes_its_kernels_from_the_pack(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    model, pack = made
    want, plain, phases, _ = answer(model, tmp_path / "without", "0")
    assert plain["pack_hits"] == 0
    assert "kernels/glslang" in phases
    got, stats, phases, said = answer(model, tmp_path / "with", pack)
    assert got == want
    assert stats["pack_hits"] == stats["disk_misses"] == stats["pipelines"] > 0
    assert "kernels/glslang" not in phases
    assert said == ""
    _, stats, phases, _ = answer(model, tmp_path / "with", pack)
    assert stats["disk_hits"] == stats["pipelines"]
    assert "kernels/pack" not in phases


@needs_vulkan
def test_other_kernels_are_compiled(made: tuple[Path, Path], tmp_path: Path) -> None:
    _core.save_dlk(pair(), str(tmp_path / "pair.dlk"))
    want, plain, _, _ = answer(tmp_path / "pair.dlk", tmp_path / "without", "0")
    got, stats, phases, _ = answer(tmp_path / "pair.dlk", tmp_path / "with", made[1])
    assert got == want
    assert stats["pack_hits"] < stats["pipelines"] == plain["pipelines"]
    assert "kernels/glslang" in phases


@needs_vulkan
@pytest.mark.parametrize("at", [3, 40, -12, None], ids=["magic", "index", "kernel", "missing"])
def test_a_damaged_pack_is_said_once_and_left_out(
    at: int | None, made: tuple[Path, Path], tmp_path: Path
) -> None:
    model, pack = made
    bad = tmp_path / "bad.pack"
    if at is not None:
        data = bytearray(pack.read_bytes())
        data[at] ^= 0xFF
        bad.write_bytes(data)
    want, *_ = answer(model, tmp_path / "without", "0")
    got, stats, _, said = answer(model, tmp_path / "with", bad)
    assert got == want
    assert stats["pack_hits"] < stats["pipelines"]
    assert len(said.splitlines()) == 1, said
    assert f"the kernel pack {bad} is not used" in said


@needs_vulkan
def test_packs_in_the_package_are_used(made: tuple[Path, Path], tmp_path: Path) -> None:
    model, pack = made
    package = tmp_path / "site" / "dlk"
    shutil.copytree(Path(dlk.__file__).parent, package, ignore=shutil.ignore_patterns("*.pack"))
    want, plain, *_ = answer(model, tmp_path / "without", "", package)
    assert plain["pack_hits"] == 0
    shutil.copy(pack, package / "data" / "any.pack")
    got, stats, *_ = answer(model, tmp_path / "with", "", package)
    assert got == want
    assert stats["pack_hits"] == stats["pipelines"]


def test_a_pack_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no kernel pack"):
        _core.add_kernel_pack(str(tmp_path / "none.pack"))


@needs_vulkan
def test_the_command(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, pack = made
    out = tmp_path / "out.pack"
    facts = call(
        capsys, "pack", out, "--networks", model, "--devices", "vulkan", "--dtypes", "float32",
        "--batches", "1,3", "--jobs", 1, "--json",
    ).json()  # fmt: skip
    assert packs.read_pack(pack).items() <= packs.read_pack(out).items()
    assert facts["kernels"] == len(packs.read_pack(out))
    assert facts["failures"] == []
    again = call(capsys, "pack", tmp_path / "copy.pack", "--add", out, "--add", pack)
    assert again.code == 0
    assert (tmp_path / "copy.pack").read_bytes() == out.read_bytes()


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.pack"
    fails(call(capsys, "pack", out), "--networks")
    fails(call(capsys, "pack", out, "--networks", "nin"), "--devices")
    fails(call(capsys, "pack", out, "--recorded", tmp_path / "none"), "no such folder")
    fails(call(capsys, "pack", out, "--recorded", tmp_path), "no kernel was recorded")
    fails(call(capsys, "pack", out, "--recorded", tmp_path, "--batches", "1,x"), "--batches")
    (tmp_path / "other.pack").write_bytes(b"other")
    fails(call(capsys, "pack", out, "--add", tmp_path / "other.pack"), "no kernel pack")
    broken = call(capsys, "pack", out, "--networks", tmp_path / "none.dlk", "--devices", "null")
    assert broken.code == 2
    assert "none.dlk" in broken.err
    words = ["--networks", "nin_imagenet", "--devices", "null", "--seconds", "0.001"]
    late = call(capsys, "pack", out, *words)
    assert "not done in time" in late.err
    assert not out.exists()
