"""dlk.SeparableConv, which the fusion pass makes on GPUs: the kernel in several variants, and the
two convolutions that stand for it where the kernel does not fit."""

from __future__ import annotations

from tests.subprocesses import run_cases, run_python

from .separable import PAIRS, VARIANTS


def test_one_dispatch_and_two(device_id: str) -> None:
    printed = run_cases(
        "-m", "tests.parity.separable", device_id,
        timeout=600, DLK_KERNEL_SHAPES="gpu", DLK_MATRIX_UNITS="plain",
    )  # fmt: skip
    assert int(printed.split()[-2]) == len(PAIRS) * sum(map(len, VARIANTS.values())), printed


def test_a_wrong_variant_is_named() -> None:
    program = """
import dlk
graph = dlk.zoo.build("mobilenet_v2", weights="random")
model = dlk.Model(graph, dlk.Device("null"), "float16")
try:
    model.plan(model.example_inputs({}, seed=0))
except ValueError as error:
    print(error)
"""
    for wrong in ("128,1", "128,4,256,4", "128,1,10,4", "0,1,8,4"):
        done = run_python("-c", program, timeout=120, DLK_NULL_PROFILE="nvidia",
                          DLK_SEPARABLE=wrong)  # fmt: skip
        assert "DLK_SEPARABLE is '" + wrong in done.stdout, done.stdout + done.stderr


def test_large_batches_keep_two_dispatches() -> None:
    """What the units and many pixels do well stays theirs: the fusion is for what waits."""
    program = """
import numpy as np
import dlk
model = dlk.Model(dlk.zoo.build("mobilenet_v2", weights="random"), dlk.Device("null"), "float16")
(name,) = model.inputs
for batch in (1, 64):
    plan = model.plan({name: np.zeros((batch, 3, 224, 224), np.float32)})
    print(sum(step.kernel == "conv_separable" for step in plan.steps))
"""
    done = run_python("-c", program, timeout=120, DLK_NULL_PROFILE="nvidia")
    one, many = map(int, done.stdout.split())
    assert (one >= 12, many) == (True, 0), done.stdout + done.stderr
