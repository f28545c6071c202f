"""Products and convolutions whose sums are kept in float16, as `accumulate="fp16"` asks.

A program, because a process opens a device once: ``python -m tests.parity.half_sums DEVICE``.
Prints what is wrong; ends with the kernels that added up in float16.
"""

from __future__ import annotations

import json
import sys

from .case import Tolerance
from .harness import Variant, build_graph, load_cases, make_inputs, run_variant

CASES = (
    "Conv.k3_same", "Conv.k3_odd_channels", "Conv.k1", "Conv.k7_stride2", "Conv.wide",
    "Conv.dilated", "Conv.groups2", "Conv.weights_at_run_time", "Conv.one_pixel",
    "MatMul.square", "MatMul.square_constant", "MatMul.deep", "MatMul.large", "Gemm.plain",
    "Gemm.trans_a", "Gemm.trans_b",
)  # fmt: skip
"""Sums of up to 4608 terms; float16 operands."""

TOLERANCE = Tolerance(
    2e-2,
    "each of n additions rounds what is there by 2^-12 at most, of either sign: about sqrt(n) "
    "times that, 1.7e-2 for 4608 terms",
)


def kernels_with_half_sums(device: object) -> list[str]:
    from dlk import _core

    return sorted({r.name for r in _core.built_kernels(device) if "ACC16=1" in r.key})


def main(device_id: str) -> None:
    from dlk import _core

    device, cases = _core.open_device(device_id), load_cases()
    chosen = [Variant(cases[name], "float16", "contiguous") for name in CASES]
    # A device's list of kernels lives as long as a model that has a plan.
    graph, feeds = build_graph(chosen[0], make_inputs(chosen[0]))
    model = _core.Model(graph, device)
    model.plan(feeds)
    for variant in chosen:
        outcome = run_variant(variant, device)
        if outcome.problem or outcome.relative > variant.case.tolerance_for("float16").bound:
            print(f"WRONG {variant.id}: {outcome.problem or outcome.relative}")
    if kernels_with_half_sums(device):
        print(f"WRONG: not asked for, and there: {kernels_with_half_sums(device)}")
    for variant in chosen:
        try:
            outcome = run_variant(variant, device, accumulate_fp16=True)
        except NotImplementedError as error:
            if device.caps["fp16_arithmetic"] or "fp16_arithmetic" not in str(error):
                print(f"WRONG {variant.id}: {error}")
            continue
        if outcome.problem or outcome.relative > TOLERANCE.bound:
            print(f"WRONG {variant.id}: {outcome.problem or outcome.relative}")
    print(json.dumps(kernels_with_half_sums(device)))
    del model


if __name__ == "__main__":
    main(sys.argv[1])
