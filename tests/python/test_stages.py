"""Graphs whose shapes or control flow depend on what a run computes: plans in several stages."""

from __future__ import annotations

from typing import Any

import dlk
import numpy as np
import pytest
from dlk import _core


def _model(graph: Any, device: Any) -> tuple[Any, Any]:
    model = _core.Model(graph, device)
    return model, model.create_session()


def _reshaped() -> Any:
    """y = reshape(x, [sum of a, -1] computed in the run)."""
    graph = _core.Graph()
    x = graph.add_input("x", "float32", ["N"])
    a = graph.add_input("a", "float32", [3])
    (total,) = graph.add_node("ReduceSum", [a], {"keepdims": 1})
    (rows,) = graph.add_node("Cast", [total], {"to": 7})
    rest = graph.add_constant("rest", np.array([-1]))
    (shape,) = graph.add_node("Concat", [rows, rest], {"axis": 0})
    (twice,) = graph.add_node("Add", [x, x])
    (y,) = graph.add_node("Reshape", [twice, shape])
    (z,) = graph.add_node("Exp", [y])
    graph.add_output(z, "z")
    return graph


def test_shape_from_computed_values(device: Any) -> None:
    model, session = _model(_reshaped(), device)
    x = np.linspace(-1, 1, 12).astype(np.float32)
    for a, rows in (([1, 1, 1], 3), ([1, 2, 1], 4), ([1, 1, 1], 3)):
        feeds = {"x": x, "a": np.array(a, np.float32)}
        z = session.run(feeds)["z"]
        assert z.shape == (rows, 12 // rows)
        np.testing.assert_allclose(z, np.exp(2 * x).reshape(rows, -1), rtol=1e-5)
        plan = model.plan(feeds)
        assert plan.output_shapes["z"] == (rows, 12 // rows)
        assert plan.dispatches >= 3
    run = session.run_async(feeds)
    run.wait()
    assert run.read("z").shape == (3, 4)


def test_fp16_storage_and_guards(device: Any) -> None:
    x, a = np.linspace(-1, 1, 12).astype(np.float32), np.array([2, 1, 1], np.float32)
    for options in ({"dtype": "float16"}, {"guards": True}, {"fuse": False, "alias": False}):
        model = _core.Model(_reshaped(), device, **options)
        z = model.create_session().run({"x": x, "a": a})["z"]
        np.testing.assert_allclose(z, np.exp(2 * x).reshape(4, 3), rtol=5e-3)


def _branches() -> Any:
    def branch(op: str) -> Any:
        graph = _core.Graph()
        x = graph.add_input("x", "float32", [])
        (y,) = graph.add_node(op, [x])
        graph.add_output(y, "y")
        return graph

    graph = _core.Graph()
    x = graph.add_input("x", "float32", ["N"])
    (total,) = graph.add_node("ReduceSum", [x], {"keepdims": 0})
    zero = graph.add_constant("zero", np.float32(0))
    (positive,) = graph.add_node("Greater", [total, zero])
    attributes = {"then_branch": branch("Exp"), "else_branch": branch("Neg")}
    (y,) = graph.add_node("If", [positive, x], attributes)
    (z,) = graph.add_node("Add", [y, x])
    graph.add_output(z, "z")
    return graph


def test_condition_that_the_run_computes(device: Any) -> None:
    _, session = _model(_branches(), device)
    for x in (np.array([1, 2], np.float32), np.array([-1, -2], np.float32)):
        expected = (np.exp(x) if x.sum() > 0 else -x) + x
        np.testing.assert_allclose(session.run({"x": x})["z"], expected, rtol=1e-5)


def _loop(limit: float, trips: int | None, scale: Any = None) -> Any:
    """Doubles x until its sum passes `limit` (None: never) or `trips` are done; stacks all x."""
    body = _core.Graph()
    iteration = body.add_input("i", "int64", [])
    condition = body.add_input("cond", "bool", [])
    x = body.add_input("x", "float32", [])
    factor = body.add_input("factor", "float32", [])
    (y,) = body.add_node("Mul", [x, factor])
    (step,) = body.add_node("Cast", [iteration], {"to": 1})
    (row,) = body.add_node("Add", [y, step])
    if limit:
        (total,) = body.add_node("ReduceSum", [y], {"keepdims": 0})
        (condition,) = body.add_node("Less", [total, body.add_constant("", np.float32(limit))])
    body.add_output(condition, "again")
    body.add_output(y, "y")
    body.add_output(row, "row")
    graph = _core.Graph()
    x = graph.add_input("x", "float32", ["N"])
    count = None if trips is None else graph.add_constant("trips", np.array(trips))
    start = graph.add_constant("start", np.array(True))
    factor = graph.add_constant("factor", np.full(2, 2, np.float32) if scale is None else scale)
    y, rows = graph.add_node(
        "Loop", [count, start, x, factor], {"body": body, "captured": 1}, outputs=2
    )
    (total,) = graph.add_node("ReduceSum", [rows, graph.add_constant("", np.array([0]))])
    graph.add_output(y, "y")
    graph.add_output(rows, "rows")
    graph.add_output(total, "total")
    return graph


@pytest.mark.parametrize(("limit", "trips"), [(0, 3), (0, 200), (100.0, None), (100.0, 4), (0, 1)])
def test_loops(limit: float, trips: int | None, device: Any) -> None:
    scale = np.array([1.01, 0.99], np.float32) if trips == 200 else np.full(2, 2, np.float32)
    model, session = _model(_loop(limit, trips, scale), device)
    x = np.array([1, 2], np.float32)
    y, rows = x, []
    for i in range(trips or 1000):
        y = y * scale
        rows.append(y + i)
        if limit and y.sum() >= limit:
            break
    for _ in range(2):
        result = session.run({"x": x})
        np.testing.assert_allclose(result["y"], y, rtol=1e-4)
        np.testing.assert_allclose(result["rows"], np.stack(rows), rtol=1e-4)
        np.testing.assert_allclose(result["total"], np.sum(rows, 0, keepdims=True), rtol=1e-4)
    assert any("Loop" in name for name in model.plan({"x": x}).host_ops)


def test_variables_are_assigned_after_the_last_stage(device: Any) -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", ["N"])
    state = graph.add_variable("state", np.zeros((), np.float32))
    (count,) = graph.add_node("Cast", [graph.add_node("ReduceMax", [x])[0]], {"to": 7})
    zero, one = graph.add_constant("", np.array(0)), graph.add_constant("", np.array(1))
    (scalar,) = graph.add_node("Squeeze", [count])
    (numbers,) = graph.add_node("Range", [zero, scalar, one])
    (floats,) = graph.add_node("Cast", [numbers], {"to": 1})
    (shifted,) = graph.add_node("Add", [floats, state])
    (total,) = graph.add_node("ReduceSum", [shifted], {"keepdims": 0})
    graph.add_output(shifted, "y")
    graph.assign(state, total)
    model, session = _model(graph, device)
    for size, state_before, y in ((3, 0, [0, 1, 2]), (2, 3, [3, 4])):
        feeds = {"x": np.array([0, size], np.float32)}
        model.plan(feeds)  # leaves the variables alone
        assert model.read_variable("state") == state_before
        np.testing.assert_array_equal(session.run(feeds)["y"], y)
    assert model.read_variable("state") == 7


def _sequences() -> Any:
    graph = _core.Graph()
    items = graph.add_input("items", "float32", [], "sequence")
    extra = graph.add_input("extra", "float32", [], "optional")
    at = graph.add_input("at", "int64", [])
    (has,) = graph.add_node("OptionalHasElement", [extra])
    (chosen,) = graph.add_node("SequenceAt", [items, at])
    (doubled,) = graph.add_node("Add", [chosen, chosen])
    (longer,) = graph.add_node("SequenceInsert", [items, doubled])
    (joined,) = graph.add_node("ConcatFromSequence", [longer], {"axis": 0})
    for value, name in ((has, "has"), (longer, "longer"), (joined, "joined"), (extra, "same")):
        graph.add_output(value, name)
    return graph


def test_sequences_and_optionals(device: Any, device_id: str, tmp_path: Any) -> None:
    path = str(tmp_path / "sequences.dlk")
    _core.save_dlk(_sequences(), path)
    graph = _core.load_dlk(path)
    assert [value.type for value in graph.inputs] == ["sequence", "optional", "tensor"]
    _, session = _model(graph, device)
    items = [np.arange(2, dtype=np.float32), np.ones(3, np.float32)]
    for at, extra in ((1, None), (0, np.float32(3)), (-1, None)):
        result = session.run({"items": items, "extra": extra, "at": np.array(at)})
        assert bool(result["has"]) is (extra is not None)
        assert len(result["longer"]) == 3
        np.testing.assert_array_equal(result["longer"][2], 2 * items[at])
        np.testing.assert_array_equal(result["joined"], np.concatenate([*items, 2 * items[at]]))
        if extra is None:
            assert result["same"] is None
        else:
            np.testing.assert_array_equal(result["same"], extra)
    with pytest.raises(ValueError, match="position 5"):
        session.run({"items": items, "extra": None, "at": np.array(5)})
    with pytest.raises(ValueError, match="a sequence of tensors, not one"):
        session.run({"items": items[0], "extra": None, "at": np.array(0)})
    with pytest.raises(ValueError, match="must not be absent"):
        session.run({"items": None, "extra": None, "at": np.array(0)})
    assert dlk.Model(graph, device_id).inputs["items"].type == "sequence"


def test_loop_that_never_ends(device: Any) -> None:
    _, session = _model(_loop(0, None), device)
    with pytest.raises(ValueError, match="never ends"):
        session.run({"x": np.ones(2, np.float32)})
