"""``dlk tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import dlk
from dlk import _progress
from dlk.cli.bench import batched_inputs
from dlk.cli.common import DeviceOption, DtypeOption, JsonOption, check_dtype, print_json
from dlk.sources import load_structure

__all__ = ["tune"]


def tune(
    source: Annotated[str, typer.Argument(metavar="MODEL|NAME", help="A file or a zoo network.")],
    batch: Annotated[int, typer.Option("--batch", min=1, help="Size of the first axis.")] = 1,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.0, help="For each algorithm on each problem.")
    ] = 0.1,
    records: Annotated[
        str, typer.Option("--records", help="The file to add to; default: the one that is read.")
    ] = "",
    device: DeviceOption = "",
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> None:
    """Find the fastest algorithm for each convolution of a model on a device, and keep it.

    Records stand in DLK_TUNING, else in tuning.tsv of the cache folder; models made later use them.
    """
    from dlk.tune import Measurement, Problem
    from dlk.tune import tune as run

    def show(problem: Problem, results: list[Measurement]) -> None:
        good = sorted((m for m in results if not m.error), key=lambda m: m.microseconds)
        if json or not good:
            return
        best = good[0]
        default = next((m.microseconds for m in good if not m.algorithm), float("nan"))
        print(
            f"{problem.key}: {best.algorithm or 'default'} {best.microseconds:.1f} us, "
            f"default {default:.1f} us"
        )

    with _progress.shown():
        model = dlk.Model(load_structure(source), dlk.Device(device), check_dtype(dtype))
        inputs = batched_inputs(model, batch)
    found = run(
        model, inputs, seconds=seconds, records=Path(records) if records else None, progress=show
    )
    if json:
        print_json(found)
    else:
        print(f"{len(found)} problems are faster another way than by default")
