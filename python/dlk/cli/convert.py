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


def _free(model: dlk.Model, size: int) -> dict[str, int]:
    """Every free axis of the inputs as `size`."""
    names = {d for info in model.inputs.values() for d in info.shape if not isinstance(d, int)}
    return {name or "": size for name in names}


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="A model file or a zoo network.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .dlk or .onnx file to write.")],
    weights: WeightsOption = "",
    device: DeviceOption = "",
    bundle_for: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="DEVICE",
            help="Also store the plan, compiled kernels and packed weights for this device "
            '("vulkan", "opencl:1"), so that it starts without planning or compiling.',
            show_default=False,
        ),
    ] = "",
    batch: Annotated[
        list[int] | None,
        typer.Option(
            "--batch", metavar="N", min=1, help="With --target: size of free axes; may be repeated."
        ),
    ] = None,
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> None:
    """Write a model in dlk's own format, or as ONNX. With --device, first compile it there."""
    kind = target.suffix.lower()
    if kind not in (".dlk", ".onnx"):
        raise ValueError(f"{target}: end the name with .dlk or .onnx")
    check_dtype(dtype)
    if batch and not bundle_for:
        raise ValueError("--batch says what --target plans for: add --target")
    if bundle_for and kind != ".dlk":
        raise ValueError(f"{target}: only .dlk files hold plans and kernels (--target)")
    with _progress.shown():
        graph = load_graph(source, weights or None)
        graph.validate()
        if device:
            dlk.Model(graph, device, check_dtype(dtype)).plan()
        if bundle_for:
            bundled = dlk.Model(graph, bundle_for, check_dtype(dtype), bundle="never")
            for size in batch or [1]:
                graph.add_bundle(bundled.bundle(bundled.example_inputs(_free(bundled, size))))
    if kind == ".onnx":
        from dlk.exporters.onnx import save_onnx

        save_onnx(graph, target)
    else:
        _core.save_dlk(graph, str(target))
    size = sum(f.stat().st_size for f in target.rglob("*")) if target.is_dir() else (
        target.stat().st_size
    )  # fmt: skip
    if json:
        report = {"output": target, "nodes": len(graph.nodes), "bytes": size}
        print_json({**report, "bundles": graph.bundles} if bundle_for else report)
        return
    kept = f", {graph.bundles} bundle{'s' * (graph.bundles > 1)}" if graph.bundles else ""
    print(f"{target}: {len(graph.nodes)} operations, {size / 1e6:.1f} MB{kept}")
