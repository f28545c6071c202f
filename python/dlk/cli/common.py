"""What the commands share: their common options, and results as JSON or for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "DeviceOption",
    "DtypeOption",
    "JsonOption",
    "WeightsOption",
    "check_dtype",
    "json_text",
    "load_model",
    "print_json",
    "print_table",
]

DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help='"vulkan", "opencl:1", "name:TEXT"; default: DLK_DEVICE, else the best device.',
        show_default=False,
    ),
]
DtypeOption = Annotated[
    str, typer.Option("--dtype", metavar="DTYPE", help="Storage type: float32 or float16.")
]
WeightsOption = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="PATH",
        help="Weights for a zoo network: a state dict (.pth, .safetensors), or random.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout.")]

_DTYPES = {"float32": "float32", "fp32": "float32", "f32": "float32",
           "float16": "float16", "fp16": "float16", "f16": "float16"}  # fmt: skip


def check_dtype(name: str) -> str:
    """NumPy's name of a storage type; ValueError for those that models cannot be stored in."""
    if name.lower() not in _DTYPES:
        raise ValueError(f"--dtype {name}: use float32 or float16")
    return _DTYPES[name.lower()]


def load_model(source: str, device: str, dtype: str, weights: str = "") -> Any:
    """A model on a device; the device is looked for first, because that is quick."""
    import dlk

    where = dlk.Device(device)
    return dlk.load(source, where, check_dtype(dtype), weights=weights or None)


def print_json(value: Any) -> None:
    """Exactly one JSON value on stdout; NaN and infinity become null."""
    print(json_text(value))


def json_text(value: Any) -> str:
    """A JSON value as `print_json` prints it."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return str(value) if isinstance(value, Path) else value


def print_table(titles: Sequence[str], rows: Iterable[Sequence[Any]], right: str = "") -> None:
    """A table for people; `right` has an "r" for each column that is aligned to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, title in enumerate(titles):
        table.add_column(title, justify="right" if right[i : i + 1] == "r" else "left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False, markup=False).print(table)
