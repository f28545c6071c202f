"""A barrier taken out of a plan on purpose must be reported by the validation layer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.subprocesses import run_python

from ..conftest import device_ids

PROGRAM = """
import numpy as np
from dlk import _core

graph = _core.Graph()
x = graph.add_input("x", "float32", [8, 100])
y = graph.add_node("Softmax", [graph.add_node("Softmax", [x])[0]], {"axis": 0})[0]
graph.add_output(y, "y")
model = _core.Model(graph, _core.open_device("DEVICE"), fuse=False, drop_barrier_for_test=DROP)
feeds = {"x": np.ones((8, 100), np.float32)}
barriers = [step.barrier_before for step in model.plan(feeds).steps]
assert barriers == [False, True], barriers
try:
    model.create_session().run(feeds)
    print("no complaint")
except (ValueError, _core.Error) as error:
    print("reported:", error)
"""


def _report(device: str, drop: str) -> str:
    program = PROGRAM.replace("DEVICE", device).replace("DROP", drop)
    done = run_python("-c", program, timeout=120, DLK_VULKAN_VALIDATION="1")
    assert done.returncode == 0, done.stderr
    return done.stdout


def _vulkan() -> str:
    found: list[Any] = [i for i in device_ids() if i.startswith("vulkan")]
    if not found:
        pytest.skip("no Vulkan driver found")
    return str(found[0])


def test_a_plan_has_the_barriers_it_needs() -> None:
    assert "no complaint" in _report(_vulkan(), "None")


def test_a_missing_barrier_of_a_plan_is_reported() -> None:
    report = _report(_vulkan(), "0")
    assert "SYNC-HAZARD-READ_AFTER_WRITE" in report or "SYNC-HAZARD-READ-AFTER-WRITE" in report


def test_a_barrier_that_is_not_there_cannot_be_dropped() -> None:
    import numpy as np
    from dlk import _core

    graph = _core.Graph()
    x = graph.add_input("x", "float32", [4])
    graph.add_output(graph.add_node("Relu", [x])[0], "y")
    for device in device_ids():
        model = _core.Model(graph, _core.open_device(device), drop_barrier_for_test=0)
        with pytest.raises(ValueError, match="no barrier 0"):
            model.create_session().run({"x": np.ones(4, np.float32)})
