"""``dlk convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import dlk
from dlk import _core, _progress
from dlk.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    WeightsOption,
    check_dtype,
    print_json,
)
from dlk.sources import load_graph

__all__ = ["convert"]


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="A model file or a zoo network.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .dlk or .onnx file to write.")],
    weights: WeightsOption = "",
    device: DeviceOption = "",
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> None:
    """Write a model in dlk's own format, or as ONNX. With --device, first compile it there."""
    kind = target.suffix.lower()
    if kind not in (".dlk", ".onnx"):
        raise ValueError(f"{target}: end the name with .dlk or .onnx")
    check_dtype(dtype)
    with _progress.shown():
        graph = load_graph(source, weights or None)
        graph.validate()
        if device:
            dlk.Model(graph, device, check_dtype(dtype)).plan()
    if kind == ".onnx":
        from dlk.exporters.onnx import save_onnx

        save_onnx(graph, target)
    else:
        _core.save_dlk(graph, str(target))
    size = sum(f.stat().st_size for f in target.rglob("*")) if target.is_dir() else (
        target.stat().st_size
    )  # fmt: skip
    if json:
        print_json({"output": target, "nodes": len(graph.nodes), "bytes": size})
        return
    print(f"{target}: {len(graph.nodes)} operations, {size / 1e6:.1f} MB")
