"""``dlk run``."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from dlk import _progress
from dlk._atomic import atomic_path
from dlk.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    WeightsOption,
    load_model,
    print_json,
)

__all__ = ["run"]


def run(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model file or a zoo network.")],
    input: Annotated[
        Path, typer.Option("--input", metavar="X.npz", help="Arrays under the input names.")
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="Y.npz", help="Arrays under the output names.")
    ],
    weights: WeightsOption = "",
    device: DeviceOption = "",
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> None:
    """Run a model on arrays from a file."""
    import numpy as np

    feeds = read_arrays(input)
    with _progress.shown():
        network = load_model(model, device, dtype, weights)
        plan = network.plan(feeds)
        start = time.perf_counter()
        results = network.run(feeds)
        elapsed_ms = (time.perf_counter() - start) * 1e3
    arrays = dict(_arrays(results))
    with atomic_path(output) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    if json:
        print_json(
            {
                "device": network.device.id,
                "dispatches": plan.dispatches,
                "host_ops": plan.host_ops,
                "ms": elapsed_ms,
            }
        )
        return
    for name, array in arrays.items():
        print(f"{name}: {array.dtype} {array.shape}")
    print(
        f"{network.device.id}: {plan.dispatches} dispatches, {len(plan.host_ops)} host operations, "
        f"{elapsed_ms:.1f} ms -> {output}"
    )


def _arrays(results: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a file of arrays can hold: the tensors of a sequence one by one, absent ones not."""
    for name, value in results.items():
        if isinstance(value, list):
            yield from ((f"{name}[{index}]", item) for index, item in enumerate(value))
        elif value is not None:
            yield name, value.astype(str) if value.dtype == object else value


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file; nothing in it is executed."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not an .npz file of plain arrays ({error}); write it with numpy.savez"
        ) from None
