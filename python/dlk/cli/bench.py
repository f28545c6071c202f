"""``dlk bench``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

import dlk
from dlk import _progress
from dlk._atomic import write_text
from dlk.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    check_dtype,
    json_text,
    print_json,
    print_table,
)
from dlk.roofline import by_op, peaks
from dlk.sources import load_graph

__all__ = ["bench"]


def bench(
    target: Annotated[
        str,
        typer.Argument(metavar="MODEL|zoo:NAME|op:NAME|op:case:NAME", help="What to measure."),
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
    against: Annotated[
        str, typer.Option("--against", help='"torch": PyTorch in the same run (CUDA, else CPU).')
    ] = "",
    train: Annotated[
        bool, typer.Option("--train", help="A training step: forward, backward, SGD with momentum.")
    ] = False,
    amp: Annotated[
        bool, typer.Option("--amp", help="Train in mixed precision, with a loss scale.")
    ] = False,
    accumulate: Annotated[
        str, typer.Option("--accumulate", metavar="fp16", help="Also keep sums in float16.")
    ] = "",
    roofline: Annotated[
        bool, typer.Option("--roofline", help="Compare with what the device does at most.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="B.json", help="Also write the JSON there.")
    ] = None,
    device: DeviceOption = "",
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> None:
    """Measure how fast a model, a zoo network or an operator runs or is trained.

    median_ms: host in to host out, waited for. device_ms: one resident run, waited for.
    pipelined_ms: 30 queued runs and one wait, per run; with --against of rounds in turn with the
    peer's, so that both meet the same clocks. op:gemm, op:conv and op:lstm take sizes
    (op:gemm:512, op:conv:1,64,56,64,3,1, op:lstm:32,20,64,200) and show their rates, op:gemm and
    op:conv also in int8 and bfloat16; other operators run their largest parity case, op:case:NAME
    runs one of them by its name. --roofline adds how near each operation comes to the device's
    bandwidth or arithmetic, measured by a short probe that is kept in the cache folder.
    """
    from dlk.bench import measure
    from dlk.opcases import CASES, op_case

    if against not in ("", "torch"):
        raise ValueError(f"--against {against}: the only peer is torch")
    if amp and not train:
        raise ValueError("--amp is about training: add --train")
    if train:
        _bench_training(target, weights, batch, runs, device, amp, json, bool(against))
        return
    case = None
    stored = dtype in ("int8", "bfloat16") and target.startswith(("op:gemm", "op:conv"))
    if not stored:
        dtype = check_dtype(dtype)
    if against and dtype == "bfloat16":
        raise ValueError("--against torch: compare float32, float16 or int8")
    where = dlk.Device(device)
    with _progress.shown():
        if target.startswith("op:") and target.split(":")[1] in CASES:
            case = op_case(target.removeprefix("op:"), dtype)
            graph, feeds = case.graph, dict(case.feeds)
        elif target.startswith("op:"):
            graph, feeds = _operator(target.removeprefix("op:"), dtype)
        else:
            graph, feeds = _network(target, weights), {}
        model = dlk.Model(graph, where, "float32" if stored else dtype, accumulate or None)
        if not feeds:
            feeds = batched_inputs(model, batch)
        model.plan(feeds)
        most = peaks(where) if roofline else None
    result = measure(model, feeds, batch=batch, runs=runs or None)
    more: dict[str, Any] = {"dtype": dtype}
    if against:
        more["torch"], together = _torch(target, case, model, feeds, dtype)
        result = dataclasses.replace(result, pipelined_ms=together)
    if accumulate:
        more["accumulate"] = accumulate
    if case is not None:
        seconds = result.pipelined_ms / 1e3
        more |= {"gflops": case.flops / seconds / 1e9, "gbytes": case.bytes / seconds / 1e9}
    if most is not None:
        more["roofline"] = _roofline(model.profile(feeds), most)
    facts = {"target": target, **result.to_dict(), **more}
    if output is not None:
        write_text(output, json_text(facts) + "\n")
    if json:
        print_json(facts)
        return
    print(f"{target} on {result.device} ({where.name}), {dtype}, batch {result.batch}")
    for key in ("median_ms", "device_ms", "pipelined_ms", "min_ms", "p95_ms"):
        print(f"  {key:<13} {getattr(result, key):10.3f}")
    print(f"  {'runs':<13} {result.runs:10d}")
    for key in ("gflops", "gbytes"):
        if key in more:
            print(f"  {key + '/s':<13} {more[key]:10.1f}")
    if against:
        peer = more["torch"]
        print(f"torch {peer['version']} on {peer['device']}")
        for key in ("median_ms", "pipelined_ms"):
            ratio = getattr(result, key) / peer[key]
            print(f"  {key:<13} {peer[key]:10.3f}   dlk / torch {ratio:.2f}")
        print(f"  relative error of dlk {peer['relative_error']:.1e}")
    if most is not None:
        _print_roofline(more["roofline"])


def _roofline(measured: dlk.Profile, most: Any) -> dict[str, Any]:
    """The device's peaks, and what the operations of a run reach of them."""
    steps = measured.roofline(most)
    return {"peaks": most.to_dict(), "by_op": by_op(steps), "steps": steps}


def _print_roofline(found: dict[str, Any]) -> None:
    most = {key: value / 1e9 for key, value in found["peaks"].items()}
    print(
        f"peaks: {most['copy_bytes']:.0f} GB/s, {most['fp32_flops']:.0f} GFLOP/s in float32, "
        f"{most['fp16_flops']:.0f} in float16, {most['matrix_flops']:.0f} by matrix units"
    )
    print_table(
        ("operation", "count", "ms", "GFLOP/s", "GB/s", "% of the roof"),
        [
            (row["op"], row["count"], f"{row['ms']:.3f}", f"{row['gflops']:.1f}",
             f"{row['gbytes']:.1f}", f"{100 * row['fraction']:.1f}")
            for row in found["by_op"]
        ],
        "lrrrrr",
    )  # fmt: skip


def _bench_training(
    target: str,
    weights: str,
    batch: int,
    runs: int,
    device: str,
    amp: bool,
    json: bool,
    against: bool,
) -> None:
    from dlk.bench import measure_training
    from dlk.train.imported import training_step

    if target.startswith("op:"):
        raise ValueError(f"{target}: networks are trained, not operators")
    with _progress.shown():
        graph = _network(target, weights)
        step, arrays = training_step(
            graph, batch, dlk.Device(device), "float16" if amp else "float32"
        )
        step.memory(*arrays)
    first = step(*arrays).loss
    result = measure_training(step, arrays, runs=runs or None)
    peer: dict[str, Any] = {}
    if against:
        peer = {**_torch_training(step, arrays), "dlk_loss": first}
        each = peer.pop("beside_ms")
        result = dataclasses.replace(
            result, pipelined_ms=each, images_per_s=result.batch / each * 1e3
        )
    if json:
        print_json({**result.to_dict(), **({"torch": peer} if peer else {})})
        return
    print(f"training {target} on {result.device}, {result.dtype}, batch {result.batch}")
    for key in ("median_ms", "device_ms", "pipelined_ms", "min_ms", "p95_ms"):
        print(f"  {key:<13} {getattr(result, key):10.3f}")
    print(f"  {'images/s':<13} {result.images_per_s:10.1f}")
    print(f"  {'arena MiB':<13} {result.arena_bytes / 2**20:10.1f}")
    print(f"  {'peak MiB':<13} {result.peak_bytes / 2**20:10.1f}")
    print(f"  {'runs':<13} {result.runs:10d}")
    if peer:
        print(f"torch {peer['version']} on {peer['device']}")
        for key in ("median_ms", "pipelined_ms"):
            ratio = getattr(result, key) / peer[key]
            print(f"  {key:<13} {peer[key]:10.3f}   dlk / torch {ratio:.2f}")
        print(f"  first loss    {peer['loss']:10.4f}   dlk {first:.4f}")


def _torch_training(step: Any, arrays: Any) -> dict[str, Any]:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ValueError(f"--against torch: {error}") from error
    from dlk.against import torch_training
    from dlk.bench import queued_steps

    return torch_training(step.module, arrays, step.dtype, queued_steps(step, arrays))


def _torch(
    target: str, case: Any, model: dlk.Model, feeds: dict[str, Any], dtype: str
) -> tuple[dict[str, Any], float]:
    """PyTorch's times for the same work and how far the results are apart; and dlk's pipelined_ms
    of rounds in turn with PyTorch's."""
    import numpy as np

    from dlk.against import torch_network, torch_op
    from dlk.bench import queued_runs

    try:
        import torch
    except ImportError as error:
        raise ValueError(f"--against torch: {error}") from error
    if case is not None:
        peer = torch_op(case, dtype, queued_runs(model, feeds))
    else:
        x = next(iter(feeds.values()))
        name = target.removeprefix("zoo:")
        peer = torch_network(name, model.graph, x, dtype, queued_runs(model, feeds))
    got = np.asarray(next(iter(model.run(feeds).values())), np.float64)
    want = np.asarray(peer.output, np.float64).reshape(got.shape)
    distance = float(np.linalg.norm(got - want) / max(float(np.linalg.norm(want)), 1e-30))
    figures = {
        "version": torch.__version__,
        "device": peer.device,
        "median_ms": peer.median_ms,
        "pipelined_ms": peer.pipelined_ms,
        "relative_error": distance,
    }
    return figures, peer.beside_ms


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


def _operator(name: str, dtype: str) -> tuple[Any, dict[str, Any]]:
    """A parity case: the largest of an operator in float32, or with "case:" the one of that name,
    in `dtype` where it has that, else in its first."""
    from dlk.cli.parity import suite

    harness = suite("harness")
    named = name.removeprefix("case:") if name.startswith("case:") else ""
    cases = list(harness.load_cases().values())
    chosen = [c for c in cases if (c.name == named if named else c.op == name)]
    if not chosen:
        kind = f"{named}: no such case" if named else f"op:{name}: no such operator"
        near = [c.name for c in cases if named.lower() in c.name.lower()] if named else []
        known = sorted(near[:20] or {c.op for c in cases})
        raise ValueError(f"{kind}; there are {', '.join(known)}")
    variants = [v for v in harness.variants(iter(chosen)) if v.layout == "contiguous"]
    wanted = [v for v in variants if v.dtype == (dtype if named else "float32")]
    if not wanted and not (named and variants):
        raise ValueError(f"op:{name}: has no case in float32")
    best, size = None, -1
    for variant in wanted or variants[:1]:
        inputs = harness.make_inputs(variant)
        elements = sum(a.size for a in inputs.values() if a is not None)
        if elements > size:
            best, size = (variant, inputs), elements
    assert best is not None
    graph, feeds = harness.build_graph(*best)
    return graph, feeds
