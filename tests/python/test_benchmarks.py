"""The benchmark programs: what they make of results, and that no engine and no part is silent."""

from __future__ import annotations

import argparse
import importlib
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlk
import numpy as np
import pytest

from tests.subprocesses import ROOT, run_python

FOLDER = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def benchmarks() -> Iterator[Any]:
    """Imports a benchmark program by its name."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))


def row(engine: str, ms: float, network: str = "a", **more: Any) -> dict[str, Any]:
    return {"network": network, "engine": engine, "dtype": "float32", "median_ms": ms, **more}


def test_the_last_object_of_an_engines_output(benchmarks: Any) -> None:
    engines = benchmarks("engines")
    assert engines.last_object('[0 GPU] x\n{"median_ms": 2}\nbye {\n3\n') == {"median_ms": 2}
    with pytest.raises(ValueError, match="no result"):
        engines.last_object("nothing\n[1]\n")


def test_least_ratios(benchmarks: Any) -> None:
    rows = [
        row("dlk vulkan", 2.0), row("dlk opencl", 1.0), row("dlk opencl", 0.1, error="wrong"),
        row("ncnn", 30.0), row("ncnn", 20.0), row("ncnn", 15.0, "b"),
        row("dlk vulkan", 1.0, "b"), row("ort-webgpu", 9.0, "c"),
    ]  # fmt: skip
    assert benchmarks("engines").least_ratios(rows) == {"ncnn": (15.0, "b")}


def test_wrong_results_are_errors(benchmarks: Any, tmp_path: Path) -> None:
    engines = benchmarks("engines")
    reference = np.arange(4, dtype=np.float32)
    for engine, values in (("good", reference * 1.0001), ("bad", reference * 1.1), ("short", [1])):
        np.save(engines.result_path(tmp_path, engine, "float32"), np.asarray(values, np.float32))
    rows = [row(name, 1.0) for name in ("good", "bad", "short")]
    for each in rows:
        assert engines.compare(each, tmp_path, reference) is reference
    assert "error" not in rows[0]
    assert "relative error" in rows[1]["error"]
    assert "not 4" in rows[2]["error"]


def test_an_engine_that_is_not_there_is_a_row(benchmarks: Any, tmp_path: Path) -> None:
    engines = benchmarks("engines")
    chosen = engines.arguments().parse_args(["--limit", "60", "--seconds", "0.01"])
    engines.prepare("lenet", tmp_path)
    missing = engines.call("voodoo", "float32", "lenet", tmp_path, chosen)
    assert missing["error"] == "ValueError: there is no engine 'voodoo'"
    chosen = argparse.Namespace(**{**vars(chosen), "limit": 0.01})
    assert "no result in 0.01 s" in engines.call("onnxruntime", "float32", "lenet", tmp_path,
                                                 chosen)["error"]  # fmt: skip


def test_dlk_and_onnxruntime_side_by_side(device_id: str, tmp_path: Path) -> None:
    output = tmp_path / "engines.json"
    done = run_python(
        str(FOLDER / "engines.py"), "--networks", "lenet", "--devices", device_id, "--dtype",
        "float32", "--engines", "onnxruntime", "--seconds", "0.01", "--output", str(output),
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "onnxruntime: at least" in done.stdout
    table = output.with_suffix(".md").read_text()
    assert f"| lenet | dlk {device_id} |" in table


def test_onnx_in_float16(benchmarks: Any) -> None:
    import onnxruntime

    graph = dlk.zoo.build("lenet", weights="random")
    x = np.random.default_rng(0).standard_normal((1, 1, 28, 28)).astype(np.float32)
    results = []
    for dtype in ("float32", "float16"):
        model = benchmarks("peers").to_onnx(graph, dtype, x.shape)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        results.append(session.run(None, {session.get_inputs()[0].name: x})[0])
    error = np.linalg.norm(results[1] - results[0]) / np.linalg.norm(results[0])
    assert results[1].dtype == np.float32
    assert 0 < error < 1e-2


def test_parts_of_a_session(benchmarks: Any, tmp_path: Path) -> None:
    session = benchmarks("gpu_session")
    made = session.Session(tmp_path, "h200", "vulkan,opencl", tmp_path, False, 4)
    for name, part in session.PARTS.items():
        commands = part.commands(made)
        assert commands, name
        for command in commands:
            assert command[1] == "-m" or Path(command[1]).is_file(), command
    assert Path(made.file("engines")).match(
        "*-h200-engines.json"
    )  # as acceptance.py looks for them
    assert Path(made.file("training")).match("*-training-h200.json")
    assert session.chosen_parts("") == list(session.PARTS)
    assert session.chosen_parts("tiles,ops") == ["tiles", "ops"]
    with pytest.raises(ValueError, match="no part sleep"):
        session.chosen_parts("ops,sleep")


def test_a_part_is_stopped_with_all_that_it_started(benchmarks: Any, tmp_path: Path) -> None:
    session = benchmarks("gpu_session")
    log = tmp_path / "log"
    touch = f"import pathlib, time; time.sleep(4); pathlib.Path({str(tmp_path / 'late')!r}).touch()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {touch!r}])"
    assert session.run_command([sys.executable, "-c", child], 1, log) == "stopped after 1 s"
    assert session.run_command([sys.executable, "-c", "print('hello')"], 30, log) == ""
    assert session.run_command([sys.executable, "-c", "exit(3)"], 30, log) == "exit 3"
    assert "hello" in log.read_text()
    time.sleep(4)
    assert not (tmp_path / "late").exists()
    session.pack(tmp_path, tmp_path.with_suffix(".tar.gz"))
    with tarfile.open(tmp_path.with_suffix(".tar.gz")) as archive:
        assert f"{tmp_path.name}/log" in archive.getnames()


def test_what_is_drawn(benchmarks: Any) -> None:
    plot = benchmarks("plot")
    rows = [row("dlk vulkan", 2.0), row("ncnn", 3.0, "b"), row("ncnn", 9.0, error="slow")]
    assert plot.bars({"rows": rows}, "median_ms") == {
        "dlk vulkan float32": {"a": 2.0}, "ncnn float32": {"b": 3.0},
    }  # fmt: skip
    with pytest.raises(ValueError, match="device_ms"):
        plot.bars({"rows": rows}, "device_ms")
    steps = [{"ms": 1.0, "flops": 8.0, "bytes": 4, "gflops": 5.0},
             {"ms": 3.0, "flops": 0.0, "bytes": 4, "gflops": 0.0}]  # fmt: skip
    assert plot.points({"steps": steps}) == [(2.0, 5.0, 0.25)]
