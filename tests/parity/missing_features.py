"""Runs parity cases on a device that hides features: what is not refused by name is right.

A program, because a process opens a device once: ``DLK_HIDE_CAPS=fp64,int64 python -m
tests.parity.missing_features DEVICE``. Prints what is wrong, then how often each bit was named.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter

from .expectations import refusal_reason
from .harness import Variant, load_cases, make_inputs, run_variant, variants


def chosen() -> list[Variant]:
    """One quick case of each operator, dtype and type of the first input."""
    found: dict[tuple[str, str, str], Variant] = {}
    for variant in variants(iter(load_cases().values())):
        if not variant.case.slow and variant.dtype != "bfloat16":
            first = next(iter(make_inputs(variant).values()), None)
            kind = "" if first is None else first.dtype.name
            found.setdefault((variant.case.op, variant.dtype, kind), variant)
    return list(found.values())


def main(device_id: str) -> None:
    from dlk import _core

    device = _core.open_device(device_id)
    hidden = os.environ["DLK_HIDE_CAPS"].split(",")
    assert not any(device.caps[bit] for bit in hidden)
    refused: Counter[str] = Counter()
    for variant in chosen():
        try:
            outcome = run_variant(variant, device)
        except NotImplementedError as error:
            if refusal_reason(device.caps, str(error)) is None:
                print(f"WRONG {variant.id}: {error}")
            refused.update(bit for bit in hidden if re.search(rf"\b{bit}\b", str(error)))
            continue
        bound = variant.case.tolerance_for(variant.dtype)
        if outcome.problem or outcome.relative > bound.bound:
            print(f"WRONG {variant.id}: {outcome.problem or outcome.relative}")
    print(" ".join(f"{bit}={refused[bit]}" for bit in hidden))


if __name__ == "__main__":
    main(sys.argv[1])
