"""``dlk grad``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import dlk
from dlk import _progress
from dlk._atomic import atomic_path
from dlk.cli.common import DeviceOption, JsonOption, print_json
from dlk.cli.run import read_arrays

__all__ = ["grad"]


def grad(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model file or a zoo network.")],
    input: Annotated[
        Path, typer.Option("--input", metavar="X.npz", help="Arrays under the input names.")
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="G.npz", help="Gradients under the same names.")
    ],
    cotangent: Annotated[
        Path | None,
        typer.Option("--cotangent", metavar="DY.npz", help="Weights of the outputs; default: 1."),
    ] = None,
    device: DeviceOption = "",
    json: JsonOption = False,
) -> None:
    """Gradients of a model's outputs for its inputs and weights."""
    import numpy as np

    feeds = read_arrays(input)
    weights = None if cotangent is None else read_arrays(cotangent)
    with _progress.shown():
        where = dlk.Device(device)
        found = dlk.grad(model, feeds, weights, device=where)
    with atomic_path(output) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **found)
    if json:
        shapes = {name: list(array.shape) for name, array in found.items()}
        print_json({"device": where.id, "gradients": shapes})
        return
    for name, array in found.items():
        print(f"{name}: {array.dtype} {array.shape}, norm {float(np.linalg.norm(array)):.6g}")
    print(f"{where.id}: {len(found)} gradients -> {output}")
