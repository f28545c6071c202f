"""``dlk profile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlk import _progress
from dlk.cli.bench import batched_inputs
from dlk.cli.common import DeviceOption, DtypeOption, JsonOption, check_dtype, print_json
from dlk.cli.run import read_arrays

__all__ = ["profile"]


def profile(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model file or a zoo network.")],
    input: Annotated[
        Path | None,
        typer.Option("--input", metavar="X.npz", help="Arrays under the input names, not noise."),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, help="Size of the first axis.")
    ] = 1,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="How many commands to list.")
    ] = 30,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="T.json", help="Write a trace for Perfetto."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="P.png", help="Write a bar chart (needs matplotlib)."),
    ] = None,
    roofline: Annotated[
        bool, typer.Option("--roofline", help="Compare with what the device does at most.")
    ] = False,
    device: DeviceOption = "",
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> None:
    """Show where the time of one run goes.

    Each command is measured on the device. Zoo networks are profiled with random weights: nothing
    is fetched.
    """
    import dlk
    from dlk.roofline import peaks
    from dlk.sources import load_structure

    dtype, where = check_dtype(dtype), dlk.Device(device)
    feeds = read_arrays(input) if input is not None else None
    with _progress.shown():
        network = dlk.Model(load_structure(model), where, dtype)
        measured = network.profile(batched_inputs(network, batch) if feeds is None else feeds)
        most = peaks(where) if roofline else None
    if trace is not None:
        measured.chrome_trace(trace)
    if plot is not None:
        dlk.plot.profile(measured, plot)
    if json:
        steps = [
            {"node": s.node, "op": s.op, "kernel": s.kernel, "ms": ns / 1e6, "flops": s.flops}
            for s, ns in measured.steps
        ]
        facts = {"device": where.id, "total_ms": measured.total_ms, "by_op": measured.by_op(),
                 "steps": steps}  # fmt: skip
        if most is not None:
            facts["roofline"] = {"peaks": most.to_dict(), "steps": measured.roofline(most)}
        print_json(facts)
        return
    print(measured.table(limit, most))
    print("by operation: " + ", ".join(f"{op} {ms:.2f} ms" for op, ms in measured.by_op().items()))
