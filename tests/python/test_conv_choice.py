"""Which kernels compute a convolution on a GPU, where no record says so: the cost model's choice.

The null device plans as for an H200 (DLK_NULL_PROFILE); benchmarks/conv_tiles.py measures.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from tests.subprocesses import run_python

EXPECTED = {
    # Few and small windows: the implicit product.
    "1,64,55,55,16,1,1,1,1,0,0,1,float32": "conv_gemm",
    "1,96,14,14,576,1,1,1,1,0,0,1,float16": "conv_mma",
    "1,64,56,56,64,3,3,2,2,1,1,1,float32": "conv_gemm",
    # Windows of 3 where multiplications rule; on matrix units they do not.
    "1,64,224,224,64,3,3,1,1,1,1,1,float32": "winograd_output",
    "1,512,28,28,512,3,3,1,1,1,1,1,float32": "winograd_output",
    "64,256,14,14,256,3,3,1,1,1,1,1,float32": "winograd_output",
    "1,512,28,28,512,3,3,1,1,1,1,1,float16": "conv_mma",
    "1,48,35,35,64,5,5,1,1,2,2,1,float16": "conv_mma",
    # Large windows.
    "1,64,64,64,64,7,7,1,1,3,3,1,float32": "fft_product",
    "1,16,64,64,16,31,31,1,1,15,15,1,float32": "fft_product",
    "1,16,64,64,16,31,31,1,1,15,15,1,float16": "fft_product",
    "1,16,70,70,16,65,65,1,1,32,32,1,float32": "conv_gemm",
    # One channel a group.
    "1,64,56,56,64,3,3,1,1,1,1,64,float32": "conv_depthwise",
    "8,16,56,56,16,31,31,1,1,15,15,16,float32": "fft_product",
}

PROGRAM = """
import json, math, sys
import dlk
from dlk.tune import Problem

steps, device = {}, dlk.Device("null")
Problem._numpy = lambda self, x, weight: 0  # nothing runs
for key in sys.argv[1:]:
    problem = Problem.parse(key)
    graph, feed, _ = problem.graph()
    plan = dlk.Model(graph, device, problem.dtype).plan(feed)
    steps[key] = [[step.kernel, math.prod(step.groups)] for step in plan.steps]
print(json.dumps(steps))
"""


MEASURED = Path(__file__).parents[2] / "benchmarks/results/2026-11-21-h200-choices.json"
"""Of problems the variants that were measured: name, microseconds, kernels and groups."""


def chosen(profile: str, problems: list[str]) -> dict[str, list[list[object]]]:
    done = run_python("-c", PROGRAM, *problems, timeout=300, DLK_NULL_PROFILE=profile,
                      DLK_CONV_ALGO="", DLK_TUNING="/dev/null")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, list[list[object]]] = json.loads(done.stdout)
    return found


def test_the_cost_model_chooses_by_shape() -> None:
    found = chosen("nvidia", list(EXPECTED))
    wrong = {
        key: found[key]
        for key, kernel in EXPECTED.items()
        if kernel not in [name for name, _ in found[key]]
    }
    assert not wrong


def test_the_choice_is_close_to_the_best_that_was_measured() -> None:
    """Convolutions of six networks in float16 and twelve shapes in float32, one image."""
    problems = json.loads(MEASURED.read_text())["problems"]
    found = chosen("nvidia-opencl", list(problems))
    ratios = {}
    for key, variants in problems.items():
        times = [us for _, us, steps in variants if steps == found[key]]
        if times:  # else the model has a variant that was not among the measured
            ratios[key] = min(times) / min(us for _, us, _ in variants)
    assert len(ratios) >= 0.85 * len(problems)
    assert statistics.mean(ratios.values()) < 1.03
    assert {key: ratio for key, ratio in ratios.items() if ratio > 1.12} == {}
