"""Loading and running models."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import dlk
import numpy as np
import pytest
from dlk import _core

from .nets import dense, dense_reference, pair, relative_error, save_onnx


@pytest.fixture(scope="module")
def model(device_id: str) -> dlk.Model:
    return dlk.Model(dense(), device_id)


def batch(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 6)).astype(np.float32)


def test_call(model: dlk.Model) -> None:
    x = batch(3)
    assert relative_error(model(x), dense_reference(x)) < 1e-5
    assert relative_error(model({"x": x}), dense_reference(x)) < 1e-5
    assert relative_error(model(x=x), dense_reference(x)) < 1e-5
    assert relative_error(model.run({"x": x})["y"], dense_reference(x)) < 1e-5
    assert relative_error(model(x.tolist()), dense_reference(x)) < 1e-5


def test_batches_of_many_sizes(model: dlk.Model) -> None:
    for n in (1, 2, 7, 1):
        assert relative_error(model(batch(n)), dense_reference(batch(n))) < 1e-5


def test_tensors_stay_on_the_device(model: dlk.Model) -> None:
    x = batch(2)
    result = model(dlk.Tensor(x, model.device))
    assert isinstance(result, dlk.Tensor)
    assert result.device == model.device
    assert relative_error(result, dense_reference(x)) < 1e-5


def test_several_inputs_and_outputs(device_id: str) -> None:
    model = dlk.Model(pair(), device_id)
    a, b = np.full((2, 3), 5, np.float32), np.full((2, 3), 2, np.float32)
    total, difference = model(a, b)
    np.testing.assert_array_equal(total, a + b)
    np.testing.assert_array_equal(difference, a - b)
    assert list(model.inputs) == ["a", "b"]
    assert model.outputs == ["total", "difference"]


def test_half_precision(device_id: str) -> None:
    if not dlk.Device(device_id).fp16:
        with pytest.raises(NotImplementedError, match="float16"):
            dlk.Model(dense(), device_id, dtype="float16")
        return
    x = batch(4)
    result = dlk.Model(dense(), device_id, dtype="float16")(x)
    assert result.dtype == np.float32
    assert relative_error(result, dense_reference(x)) < 2e-2


def test_half_accumulation_is_refused_where_it_cannot_be(device_id: str) -> None:
    if dlk.Device(device_id).caps["fp16_arithmetic"]:
        dlk.Model(dense(), device_id, dtype="float16", accumulate="fp16")
    else:
        with pytest.raises(NotImplementedError, match="fp16"):
            dlk.Model(dense(), device_id, dtype="float16", accumulate="fp16")
    with pytest.raises(ValueError, match="accumulate"):
        dlk.Model(dense(), device_id, accumulate="int4")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "x"),
        ({"z": np.zeros((1, 6), np.float32)}, "z"),
        ({"x": np.zeros((1, 6), np.float64)}, "float64"),
        ({"x": np.zeros((1, 6), np.int32)}, "int32"),
        ({"x": np.zeros((1, 5), np.float32)}, "5"),
        ({"x": np.zeros(6, np.float32)}, "x"),
        ({"x": np.zeros((1, 6, 1), np.float32)}, "x"),
        ({"x": np.array([["a"]])}, "str"),
    ],
)
def test_wrong_inputs(model: dlk.Model, inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.run(inputs)
    assert model(batch(1)).shape == (1, 4)  # still usable


def test_too_many_arguments(model: dlk.Model) -> None:
    with pytest.raises(ValueError, match="2 inputs given"):
        model(batch(1), batch(1))


def test_nan_and_infinity_pass_through(model: dlk.Model) -> None:
    x = batch(2)
    x[0, 0] = np.inf
    x[1, 0] = np.nan
    result = model(x)
    want = np.maximum(x @ _core_weight() + 0, 0)
    assert np.isinf(result[0]).any() == np.isinf(want[0]).any()
    assert np.isnan(result[1]).all()


def _core_weight() -> np.ndarray:
    from .nets import WEIGHT

    return WEIGHT


def test_asynchronous_runs(model: dlk.Model) -> None:
    runs = [model.run_async({"x": batch(2, seed)}) for seed in range(5)]
    done = threading.Event()
    seen: list[BaseException | None] = []

    def finished(error: BaseException | None) -> None:
        seen.append(error)
        done.set()

    runs[-1].on_complete(finished)
    for seed, run in enumerate(runs):
        want = dense_reference(batch(2, seed))
        assert relative_error(run.result()["y"], want) < 1e-5
        assert relative_error(run.tensor("y"), want) < 1e-5
        assert run.done
    assert done.wait(10)
    assert seen == [None]
    with pytest.raises(ValueError, match="nothing"):
        runs[0].tensor("nothing")


def test_inputs_may_change_once_a_run_has_started(model: dlk.Model) -> None:
    x = np.empty((3, 6), np.float32)
    runs, waited = [], []
    for seed in range(6):
        x[:] = batch(3, seed)
        runs.append(model.run_async({"x": x}))
        x[:] = batch(3, 100 + seed)
        if seed % 2:  # with runs under way
            waited.append((100 + seed, model.run({"x": x})["y"]))
        x[:] = -1
    for seed, run in enumerate(runs):
        assert relative_error(run.result()["y"], dense_reference(batch(3, seed))) < 1e-5
    for seed, result in waited:
        assert relative_error(result, dense_reference(batch(3, seed))) < 1e-5


def test_runs_are_awaited_beside_others(model: dlk.Model) -> None:
    async def one(seed: int) -> np.ndarray:
        loop = asyncio.get_running_loop()
        run = model.run_async({"x": batch(2, seed)})
        done: asyncio.Future[None] = loop.create_future()
        run.on_complete(lambda error: loop.call_soon_threadsafe(done.set_result, None))
        await done
        assert run.done
        return run.result()["y"]

    async def all_of() -> list[np.ndarray]:
        return await asyncio.gather(*(one(seed) for seed in range(8)))

    for seed, result in enumerate(asyncio.run(all_of())):
        assert relative_error(result, dense_reference(batch(2, seed))) < 1e-5


def test_two_runs_in_flight_a_hundred_times_over(model: dlk.Model) -> None:
    before = model.run_async({"x": batch(3, 0)})
    for seed in range(1, 101):
        run = model.run_async({"x": batch(3, seed)})
        want = dense_reference(batch(3, seed - 1))
        assert relative_error(before.result()["y"], want) < 1e-5
        before = run
    assert relative_error(before.result()["y"], dense_reference(batch(3, 100))) < 1e-5


def test_runs_that_may_overlap(device_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many at once, each with inputs of its own, and some that read what others make."""
    monkeypatch.setenv("DLK_VULKAN_LANES", "4")
    model = dlk.Model(pair(), device_id, in_flight=4)
    rng = np.random.default_rng(3)
    runs, wanted = [], []
    for i in range(60):
        a, b = rng.integers(-50, 50, (2, 5, 3)).astype(np.float32)
        feeds: dict[str, Any] = {"a": a, "b": b}
        if i % 3 == 2:  # of the run before, which is not waited for
            feeds["a"], a = runs[-1].tensor("total"), wanted[-1][0]
        if i % 5 == 4:
            feeds["b"], b = runs[-2].tensor("difference"), wanted[-2][1]
        runs.append(model.run_async(feeds))
        wanted.append((a + b, a - b))
    for run, (total, difference) in zip(runs, wanted, strict=True):
        np.testing.assert_array_equal(run.result()["total"], total)
        np.testing.assert_array_equal(run.result()["difference"], difference)


def test_a_tensor_of_another_device_is_refused() -> None:
    first, last = dlk.devices()[0], dlk.devices()[-1]
    if first == last:
        pytest.skip("needs two devices")
    with pytest.raises(ValueError, match="another device"):
        dlk.Model(dense(), first)(dlk.Tensor(batch(1), last))


def test_two_models_on_two_threads(device_id: str) -> None:
    models = [dlk.Model(dense(), device_id), dlk.Model(dense(), device_id)]
    errors: list[BaseException] = []

    def work(index: int) -> None:
        try:
            for i in range(100):
                x = batch(1 + i % 3, 100 * index + i)
                assert relative_error(models[index](x), dense_reference(x)) < 1e-5
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors, errors[0]


def test_one_model_on_several_threads(model: dlk.Model) -> None:
    errors: list[BaseException] = []

    def work(index: int) -> None:
        try:
            for i in range(20):
                x = batch(2, 100 * index + i)
                assert relative_error(model(x), dense_reference(x)) < 1e-5
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors, errors[0]


def test_plan_and_profile(model: dlk.Model, tmp_path: Path) -> None:
    plan = model.plan({"x": batch(2)})
    assert plan.dispatches >= 1
    assert plan.host_ops == []
    assert plan.output_shapes == {"y": (2, 4)}
    assert plan.table()
    assert plan.graphviz().startswith("digraph")
    profile = model.profile({"x": batch(2)})
    assert len(profile.steps) >= 1
    assert profile.total_ms > 0
    assert profile.device_id in profile.table()
    profile.chrome_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    complete = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert len(complete) == len(profile.steps)
    assert all({"name", "ts", "dur", "pid", "tid"} <= set(e) for e in complete)
    assert sum(profile.by_op().values()) == pytest.approx(profile.total_ms)


def test_summary(model: dlk.Model) -> None:
    text = model.summary()
    assert "MatMul" in text
    assert "(N, 4)" in text
    assert "28 parameters" in text
    assert "24 multiply-adds" in text


def test_repr(model: dlk.Model) -> None:
    assert "x: float32" in repr(model)


def test_variables(device_id: str) -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [2])
    total = graph.add_variable("total", np.zeros(2, np.float32))
    following = graph.add_node("Add", [total, x])[0]
    graph.assign(total, following)
    graph.add_output(following, "y")
    model = dlk.Model(graph, device_id)
    for step in (1, 2, 3):
        np.testing.assert_array_equal(model([1.0, 2.0]), [step, 2 * step])
    np.testing.assert_array_equal(model.handle.read_variable("total"), [3, 6])
    model.handle.write_variable("total", np.array([10, 10], np.float32))
    np.testing.assert_array_equal(model([1.0, 2.0]), [11, 12])
    with pytest.raises(ValueError, match="nothing"):
        model.handle.read_variable("nothing")


def test_unknown_operators_are_named_at_once(device_id: str) -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [1])
    y = graph.add_node("Frobnicate", [x])[0]
    graph.add_output(graph.add_node("Defenestrate", [y])[0], "y")
    with pytest.raises(NotImplementedError, match=r"(?s)Defenestrate.*Frobnicate|Frobnicate.*Def"):
        dlk.Model(graph, device_id)


def test_progress_is_told(device_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DLK_CACHE_DIR", str(tmp_path))
    seen: list[tuple[str, int, int]] = []
    model = dlk.Model(dense(), device_id, progress=lambda *told: seen.append(told))
    model(batch(1))
    assert seen
    stage, done, total = seen[-1]
    assert stage
    assert done == total


def test_save_and_load(model: dlk.Model, tmp_path: Path) -> None:
    path = tmp_path / "dense.dlk"
    model.save(path)
    again = dlk.load(path, model.device)
    x = batch(3)
    np.testing.assert_array_equal(again(x), model(x))
    strange = tmp_path / "dense.bin2"
    path.rename(strange)
    np.testing.assert_array_equal(dlk.load(strange, model.device)(x), model(x))
    with pytest.raises((OSError, ValueError), match="missing"):
        model.save(tmp_path / "missing" / "dense.dlk")
    assert list(tmp_path.iterdir()) == [strange]


def test_load_onnx(device_id: str, tmp_path: Path) -> None:
    x = batch(2)
    path = save_onnx(tmp_path / "dense.onnx")
    assert relative_error(dlk.load(path, device_id)(x), dense_reference(x)) < 1e-5
    strange = path.rename(tmp_path / "dense.model")
    assert relative_error(dlk.load(str(strange), device_id)(x), dense_reference(x)) < 1e-5


def test_load_a_graph(device_id: str) -> None:
    assert dlk.load(dense(), device_id)(batch(1)).shape == (1, 4)


@pytest.mark.parametrize("suffix", [".onnx", ".dlk"])
@pytest.mark.parametrize("damage", ["empty", "half", "noise", "text"])
def test_damaged_files(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"model{suffix}"
    if suffix == ".onnx":
        save_onnx(path)
    else:
        _core.save_dlk(dense(), str(path))
    data = path.read_bytes()
    noise = np.random.default_rng(1).bytes(len(data))
    damaged = {"empty": b"", "half": data[: len(data) // 2], "noise": noise, "text": b"hello\n" * 9}
    path.write_bytes(damaged[damage])
    with pytest.raises((ValueError, NotImplementedError), match=r"model"):
        dlk.load(path)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        dlk.load(tmp_path / "missing.onnx")
    with pytest.raises(FileNotFoundError, match="the zoo has"):
        dlk.load("no_such_network")
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ValueError, match=r"weights.*dlk\.load"):
        dlk.load(weights)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ValueError, match="not a model"):
        dlk.load(folder)
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(ValueError, match="not a model"):
        dlk.load(text)
