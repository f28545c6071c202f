"""Runs one parity case of each operator, and some with many work-items, on the first device.

A program, for oclgrind: ``python -m tests.hosts.parity_on_device``. Prints the device, a line for
each result that is wrong, and how many there were.
"""

from __future__ import annotations

import os

from ..parity.harness import Variant, load_cases, make_inputs, run_variant, variants

LARGEST = 4000  # elements of all inputs: the simulator does a few million steps a second
MORE = ("Softmax.classes", "LogSoftmax.classes", "MatMul.square", "Conv.k1", "Conv.k3_odd_channels")


def chosen() -> list[Variant]:
    """For each operator the middle one of its small cases by size."""
    by_operator: dict[tuple[str, str], list[tuple[int, str, Variant]]] = {}
    result = []
    for variant in variants(iter(load_cases().values())):
        c = variant.case
        if variant.layout != "contiguous" or variant.dtype not in ("float32", "none") or c.slow:
            continue
        if c.id in MORE:
            result.append(variant)
        size = sum(a.size for a in make_inputs(variant).values() if a is not None)
        if size <= LARGEST:
            by_operator.setdefault((c.domain, c.op), []).append((size, variant.id, variant))
    for candidates in by_operator.values():
        candidates.sort(key=lambda entry: entry[:2])
        result.append(candidates[len(candidates) // 2][2])
    return result


def main() -> None:
    from dlk import _core

    # One processor: dlk then compiles with one thread, where oclgrind's compiler is safe.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    device = _core.open_device("opencl:0")
    print(device.name)
    todo = chosen()
    for variant in todo:
        print(f"-- {variant.id}", flush=True)
        outcome = run_variant(variant, device)
        bound = variant.case.tolerance_for(variant.dtype).bound
        if outcome.problem or outcome.relative > bound:
            print(f"WRONG {variant.id}: {outcome}")
    print(f"{len(todo)} cases")


if __name__ == "__main__":
    main()
