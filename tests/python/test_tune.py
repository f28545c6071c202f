"""``dlk tune``: problems, measurements, and records that the engine reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dlk
import pytest
from dlk import tune
from dlk.tune import Measurement, Problem

KEY = "1,16,14,14,24,3,3,1,1,1,1,1,float32"


def convolution(device: str) -> tuple[dlk.Model, dict[str, Any]]:
    graph, feed, _ = Problem.parse(KEY).graph()
    return dlk.Model(graph, dlk.Device(device)), feed


def kernels(device: str) -> list[str]:
    model, feed = convolution(device)
    return [step.kernel for step in model.plan(feed).steps]


def test_problems_come_from_the_plan(device_id: str) -> None:
    model, feed = convolution(device_id)
    problems = tune.problems_of(model, feed)
    assert [p.key for p in problems] == [KEY]
    assert problems[0].output == (14, 14)


def test_every_algorithm_that_is_offered_is_right(device_id: str) -> None:
    device = dlk.Device(device_id)
    problem = Problem.parse(KEY)
    offered = tune.algorithms(problem, device.backend, bool(device.caps["is_cpu"]), 2)
    assert offered[0] == ""
    assert {"winograd2", "winograd4"} <= set(offered)
    for algorithm in offered:
        result = tune.measure(problem, device.handle, algorithm, 0.0)
        assert result.error == ""
        assert result.microseconds > 0


def test_streams_are_offered_where_whole_tiles_leave_units_idle() -> None:
    tile = "64,64,64,3,2,32,32"
    offered = tune.algorithms(Problem.parse("8,256,14,14,256,3,3,1,1,1,1,1,float16"), "opencl",
                              False, 132)  # fmt: skip
    assert {f"mma:{tile}:stream1", f"mma:{tile}:stream2"} <= set(offered)
    assert tune.streams_of(tile, 100, 2304, 132) == [f"mma:{tile}:stream{n}" for n in (1, 2)]
    assert tune.streams_of(tile, 132, 2304, 132) == [f"mma:{tile}:stream2"]
    assert tune.streams_of(tile, 10, 64, 132) == []
    assert tune.streams_of("16,64,64,4,3,16,16", 100, 2304, 132) == []


def test_a_wrong_name_is_an_error_of_the_measurement(device_id: str) -> None:
    result = tune.measure(Problem.parse(KEY), dlk.Device(device_id).handle, "fastest", 0.0)
    assert result.microseconds == float("inf")
    assert "DLK_CONV_ALGO" in result.error


def test_records_change_the_plan(
    device_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tuning.tsv"
    monkeypatch.setenv("DLK_TUNING", str(path))
    before = kernels(device_id)
    caps = dlk.Device(device_id).caps
    path.write_text(f"{caps['backend']} {caps['name']}\t{KEY}\twinograd2\n")
    assert any(name == "winograd_output" for name in kernels(device_id))
    path.write_text(f"{caps['backend']} another device\t{KEY}\tdirect\n")
    assert kernels(device_id) == before
    path.write_text(f"{caps['backend']} {caps['name']}\t{KEY}\tno such thing\n")
    assert kernels(device_id) == before


def test_only_what_is_faster_is_kept(
    device_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tuning.tsv"
    other = "opencl other\t1,1,1,1,1,1,1,1,1,0,0,1,float32\tdirect\n"
    path.write_text(other)
    times = {"": 10.0, "winograd2": 5.0, "winograd4": 9.9}
    monkeypatch.setattr(
        tune, "measure", lambda _p, _d, name, _s: Measurement(name, times.get(name, 20.0))
    )
    model, feed = convolution(device_id)
    assert tune.tune(model, feed, records=path) == {KEY: "winograd2"}
    assert path.read_text().count("\n") == 2
    assert other in path.read_text()
    times["winograd2"] = 9.9
    assert tune.tune(model, feed, records=path) == {}
    assert path.read_text() == other


@pytest.mark.parametrize("spec", ["gemm:8", "gemm:3,4,5", "conv:1,3,8,4,3,2", "lstm:2,3,4,5"])
def test_op_cases_run_and_count(device_id: str, spec: str) -> None:
    from dlk.opcases import op_case

    case = op_case(spec)
    model = dlk.Model(case.graph, dlk.Device(device_id))
    result = model.run(case.feeds)["y"]
    assert result.size > 0
    assert case.flops > 0
    assert case.bytes > 0


@pytest.mark.parametrize("spec", ["gem", "gemm:0", "gemm:1,2", "conv:1", "lstm:a,b,c,d"])
def test_bad_op_cases_are_refused(spec: str) -> None:
    from dlk.opcases import op_case

    with pytest.raises(ValueError, match="op:"):
        op_case(spec)
