"""A tile that a device cannot share among groups as planned: what its trial says decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.subprocesses import run_python

PROGRAM = """
import json, sys
import numpy as np
from dlk import _core
from dlk.tune import Problem

graph, feed, want = Problem.parse("1,64,8,8,64,3,3,1,1,1,1,1,float16").graph()
session = _core.Model(graph, _core.open_device(sys.argv[1]), dtype="float16").create_session()
got = session.run(feed)["y"].astype(np.float32)
error = float(np.linalg.norm(got - want) / np.linalg.norm(want))
print(json.dumps([error, [[s.kernel, s.groups[0]] for s, _ in session.profile(feed)]]))
"""
CHOICE = """
import json, sys
import numpy as np
from dlk import _core

found = []
for n, c, side, k, window in json.loads(sys.argv[1]):
    graph = _core.Graph()
    value = graph.add_input("x", "float16", [n, side, side, c])
    value = graph.add_node("Transpose", [value], {"perm": [0, 3, 1, 2]})[0]
    weight = graph.add_constant("w", np.zeros((k, c, window, window), np.float16))
    value = graph.add_node(
        "Conv", [value, weight],
        {"kernel_shape": [window] * 2, "pads": [window // 2] * 4},
    )[0]
    graph.add_output(graph.add_node("Transpose", [value], {"perm": [0, 2, 3, 1]})[0], "y")
    model = _core.Model(graph, _core.open_device("null:0"), dtype="float16")
    plan = model.plan({"x": np.zeros((n, side, side, c), np.float16)})
    found.append([step.groups[0] for step in plan.steps if step.kernel == "conv_mma"])
print(json.dumps(found))
"""
TILE = "mma:32,64,32,1,1,4,4"
WRONG = "mma:32,64,32,1,2,4,4"
"""Copies two steps ahead into one stage: what is multiplied was overwritten."""
TILES = 2


def plan_of(device_id: str, cache: Path, algorithm: str) -> list[Any]:
    """Kernels of the plan, each with its groups; the results are right."""
    done = run_python(
        "-c", PROGRAM, device_id,
        timeout=300, DLK_KERNEL_SHAPES="gpu", DLK_MATRIX_UNITS="plain", DLK_CACHE_DIR=str(cache),
        DLK_CONV_ALGO=algorithm,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    error, steps = json.loads(done.stdout.splitlines()[-1])
    assert error < 5e-3
    return list(steps)


def trials(cache: Path) -> list[Path]:
    return sorted(cache.rglob("tile-*.txt"))


@pytest.mark.parametrize("how", ["inside4", "stream2"])
def test_a_failed_trial_leaves_the_tile_unshared(device_id: str, tmp_path: Path, how: str) -> None:
    assert plan_of(device_id, tmp_path / "wrong", f"{WRONG}:{how}")[0][0] != "conv_mma"
    cache = tmp_path / "right"
    steps = plan_of(device_id, cache, f"{TILE}:{how}")
    assert [kernel for kernel, _ in steps] == ["conv_mma"]
    assert steps[0][1] != TILES
    (trial,) = trials(cache)
    assert trial.read_text().endswith("works")
    trial.write_text(trials(tmp_path / "wrong")[0].read_text())
    again = plan_of(device_id, cache, f"{TILE}:{how}")
    assert again[0][0] == "conv_mma"
    assert again != steps
    if how == "inside4":  # the same slices, added up in a second dispatch
        assert again == [steps[0], ["conv_gemm_sum", again[1][1]]]
    assert len(trials(cache)) == 2


def test_the_model_streams_what_slices_spread_badly() -> None:
    """Beside a window of 1, where a stream would only add to a short sum."""
    problems = [[16, 1024, 14, 512, 3], [4, 512, 14, 256, 1]]
    done = run_python(
        "-c", CHOICE, json.dumps(problems),
        timeout=120, DLK_NULL_PROFILE="nvidia", DLK_TUNING="/dev/null",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    units = 132
    (stream,), (slices,) = json.loads(done.stdout.splitlines()[-1])
    assert stream % units == 0
    assert slices % units != 0
