"""Which kernels compute a convolution on a GPU, where no record says so: the cost model's choice.

The null device plans as for an H200 (DLK_NULL_PROFILE); benchmarks/conv_tiles.py measures.
"""

from __future__ import annotations

import json

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
import json, sys
import dlk
from dlk.tune import Problem

kernels = {}
for key in sys.argv[1:]:
    problem = Problem.parse(key)
    graph, feed, _ = problem.graph()
    plan = dlk.Model(graph, dlk.Device("null"), problem.dtype).plan(feed)
    kernels[key] = [step.kernel for step in plan.steps]
print(json.dumps(kernels))
"""


def test_the_cost_model_chooses_by_shape() -> None:
    done = run_python("-c", PROGRAM, *EXPECTED, timeout=300, DLK_NULL_PROFILE="nvidia",
                      DLK_CONV_ALGO="", DLK_TUNING="/dev/null")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    wrong = {key: found[key] for key, kernel in EXPECTED.items() if kernel not in found[key]}
    assert not wrong
