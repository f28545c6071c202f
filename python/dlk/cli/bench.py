"""``dlk bench``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import dlk
from dlk import _progress
from dlk.cli.common import DeviceOption, DtypeOption, JsonOption, check_dtype, print_json
from dlk.sources import load_graph

__all__ = ["bench"]


def bench(
    target: Annotated[
        str, typer.Argument(metavar="MODEL|zoo:NAME|op:NAME", help="What to measure.")
    ],
    weights: Annotated[
        str, typer.Option("--weights", metavar="random", help="A zoo network without its weights.")
    ] = "",
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, help="Size of the first axis.")
    ] = 1,
    runs: Annotated[
        int, typer.Option("--runs", metavar="N", min=0, help="Timed runs; 0: about 3 s.")
    ] = 0,
    device: DeviceOption = "",
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> None:
    """Measure how fast a model, a zoo network or an operator runs.

    median_ms: host in to host out, waited for. device_ms: one resident run, waited for.
    pipelined_ms: 30 queued runs and one wait, per run.
    """
    from dlk.bench import measure

    dtype, where = check_dtype(dtype), dlk.Device(device)
    with _progress.shown():
        if target.startswith("op:"):
            graph, feeds = _operator(target.removeprefix("op:"))
        else:
            graph, feeds = _network(target, weights), {}
        model = dlk.Model(graph, where, dtype)
        if not feeds:
            feeds = batched_inputs(model, batch)
        model.plan(feeds)
    result = measure(model, feeds, batch=batch, runs=runs or None)
    if json:
        print_json(result.to_dict())
        return
    print(f"{target} on {result.device} ({where.name}), {result.dtype}, batch {result.batch}")
    for key in ("median_ms", "device_ms", "pipelined_ms", "min_ms", "p95_ms"):
        print(f"  {key:<13} {getattr(result, key):10.3f}")
    print(f"  {'runs':<13} {result.runs:10d}")


def _network(target: str, weights: str) -> Any:
    if weights and weights != "random":
        raise ValueError(f"--weights {weights}: the only choice is random")
    return load_graph(target, weights or None)


def batched_inputs(model: dlk.Model, batch: int) -> dict[str, Any]:
    """Random inputs with the batch on each symbolic first axis.

    Raises:
        ValueError: `batch` is not 1 and the model fixes its first axis to something else.
    """
    dims: dict[str, int] = {}
    for info in model.inputs.values():
        if info.shape and not isinstance(info.shape[0], int):
            dims[info.shape[0] or ""] = batch
        elif batch != 1 and info.shape and info.shape[0] != batch:
            raise ValueError(
                f"input {info.name} has the fixed batch {info.shape[0]}; leave --batch out"
            )
    return model.example_inputs(dims, seed=0)


def _operator(name: str) -> tuple[Any, dict[str, Any]]:
    """The largest parity case of an operator."""
    from dlk.cli.parity import suite

    harness = suite("harness")
    cases = [c for c in harness.load_cases().values() if c.op == name]
    if not cases:
        known = sorted({c.op for c in harness.load_cases().values()})
        raise ValueError(f"op:{name}: no such operator; there are {', '.join(known)}")
    best, size = None, -1
    for variant in harness.variants(iter(cases)):
        if variant.dtype != "float32" or variant.layout != "contiguous":
            continue
        inputs = harness.make_inputs(variant)
        elements = sum(a.size for a in inputs.values() if a is not None)
        if elements > size:
            best, size = (variant, inputs), elements
    if best is None:
        raise ValueError(f"op:{name}: has no case in float32")
    graph, feeds = harness.build_graph(*best)
    return graph, feeds
