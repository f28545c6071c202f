"""Which kernels products and convolutions of each type get where there are matrix units.

The null device plans as for a GPU (DLK_NULL_PROFILE): an H200 whose tensor cores are reached by PTX
(nvidia-opencl) or as cooperative matrices (nvidia), or a GPU without such units.
"""

from __future__ import annotations

import json

import pytest

from tests.subprocesses import run_python

EXPECTED = {
    "nvidia-opencl": {
        "Conv.k3_same": ("float16", "conv_mma"),
        "Conv.bfloat16_padded": ("bfloat16", "conv_mma"),
        "Conv.bfloat16_odd_channels": ("bfloat16", "conv_mma"),
        "MatMul.bfloat16": ("bfloat16", "gemm_mma"),
        "ConvInteger.tiles_deep": ("none", "integer_conv_tile"),
        "ConvInteger.tiles_groups_at_run_time": ("none", "integer_conv_tile"),
        "QLinearConv.tiles_stem": ("float32", "integer_conv_tile"),
        "QLinearMatMul.uint8": ("float32", "integer_tile"),
        # Four channels in two groups are mostly padding.
        "ConvInteger.window": ("none", "integer_conv"),
    },
    "nvidia": {
        "Conv.k3_same": ("float16", "conv_mma"),
        "Conv.bfloat16_padded": ("bfloat16", "conv_gemm"),
        "ConvInteger.tiles_deep": ("none", "integer_conv_tile"),
        "MatMulInteger.uint8_int8_one": ("none", "integer_tile"),
    },
    "mali": {
        "Conv.k3_same": ("float16", "conv_gemm"),
        "Conv.bfloat16_padded": ("bfloat16", "conv_gemm"),
        "QLinearConv.tiles_stem": ("float32", "integer_conv"),
    },
}

PROGRAM = """
import json, sys
from dlk import _core
from tests.parity.harness import Variant, build_graph, load_cases, make_inputs

cases, device, kernels = load_cases(), _core.open_device("null"), {}
for asked in sys.argv[1:]:
    name, dtype = asked.split()
    variant = Variant(cases[name], dtype, "contiguous")
    graph, feeds = build_graph(variant, make_inputs(variant))
    plan = _core.Model(graph, device).plan(feeds)
    kernels[name] = [step.kernel for step in plan.steps]
print(json.dumps(kernels))
"""


@pytest.mark.parametrize("profile", EXPECTED)
def test_each_type_gets_its_kernel(profile: str) -> None:
    expected = EXPECTED[profile]
    done = run_python(
        "-c", PROGRAM, *(f"{name} {dtype}" for name, (dtype, _) in expected.items()),
        timeout=300, DLK_NULL_PROFILE=profile, DLK_CONV_ALGO="", DLK_TUNING="/dev/null",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    wrong = {name: found[name] for name, (_, kernel) in expected.items()
             if kernel not in found[name]}  # fmt: skip
    assert not wrong
