"""``dlk pack``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from dlk import _progress
from dlk.cli.common import JsonOption, check_dtype, print_json

__all__ = ["pack"]


def pack(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The file to write.")],
    networks: Annotated[
        str, typer.Option("--networks", help="Models to run once, with commas: files, zoo names.")
    ] = "",
    devices: Annotated[
        str, typer.Option("--devices", help="Devices to run them on, with commas.")
    ] = "",
    dtypes: Annotated[str, typer.Option("--dtypes", help="Storage types.")] = "float16,float32",
    batches: Annotated[str, typer.Option("--batches", help="Sizes of the first axis.")] = "1",
    recorded: Annotated[
        list[Path] | None,
        typer.Option("--recorded", help="Add a folder that DLK_KERNEL_PACK_RECORD named."),
    ] = None,
    add: Annotated[
        list[Path] | None, typer.Option("--add", help="Add the kernels of another pack.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=0, help="Processes at once.")] = 0,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, help="Stop running networks then; 0: no limit.")
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Make a kernel pack: compiled kernels from which first starts take what they need.

    The package reads the packs in its folder dlk/data, DLK_KERNEL_PACKS names others. A pack holds
    SPIR-V for Vulkan and, of NVIDIA's GPUs, the PTX of one model, for every driver of it.
    """
    from dlk import packs

    sizes = [int(text) for text in batches.split(",") if text.isdecimal()]
    if not sizes or min(sizes) < 1 or len(sizes) != len(batches.split(",")):
        raise ValueError(f"--batches {batches}: use numbers from 1 on, with commas")
    if networks and not devices:
        raise ValueError("name the devices for the networks: --devices vulkan,opencl")
    if not (networks or recorded or add):
        raise ValueError("name what goes into the pack: --networks, --recorded or --add")
    kernels: packs.Kernels = {}
    for path in add or ():
        kernels |= packs.read_pack(path)
    for folder in recorded or ():
        if not folder.is_dir():
            raise FileNotFoundError(2, "there is no such folder", str(folder))
        kernels |= packs.recorded(folder)
    failures: list[str] = []
    if networks:
        with tempfile.TemporaryDirectory() as temporary, _progress.shown():
            failures = packs.run_networks(
                temporary,
                networks.split(","),
                devices.split(","),
                [check_dtype(name) for name in dtypes.split(",")],
                sizes,
                jobs=jobs,
                seconds=seconds or float("inf"),
                progress=lambda done, total: _progress.report("running networks", done, total),
            )
            kernels |= packs.recorded(temporary)
    for failure in failures:
        print(f"dlk: {failure}", file=sys.stderr)
    if not kernels:
        raise ValueError(
            "no kernel was recorded: packs are of Vulkan's kernels and of those that NVIDIA's "
            "OpenCL compiles"
        )
    packs.write_pack(output, kernels)
    facts = {"file": output, "kernels": len(kernels), "bytes": output.stat().st_size}
    if json:
        print_json({**facts, "failures": failures})
    else:
        print(f"{len(kernels)} kernels in {output}, {facts['bytes']} bytes")
    if failures:
        raise typer.Exit(2)
