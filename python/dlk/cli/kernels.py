"""``dlk kernels``."""

from __future__ import annotations

import contextlib
import hashlib
import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from dlk import _core, _progress
from dlk._atomic import atomic_path, write_text
from dlk.cli.common import DeviceOption, DtypeOption, JsonOption, check_dtype, print_json

__all__ = ["kernels"]

_SUFFIXES = {"opencl": ".cl", "glsl": ".comp", "msl": ".metal"}


def kernels(
    emit: Annotated[
        Path | None,
        typer.Option("--emit", metavar="DIR", help="Write the kernels' sources there."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME|PATH",
            help="Every variant that this model needs (symbolic dimensions are 1).",
        ),
    ] = "",
    device: DeviceOption = "",
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> None:
    """List the kernels, or write what a device gets.

    Each kernel is written as text with its calling convention as .json, for Vulkan also as SPIR-V:
    in its default variant, or with --model in every variant that the model needs, with an
    index.json. Without --device all three languages are written.
    """
    dtype = check_dtype(dtype)
    opened = _core.open_device(device) if device or model else None
    formats = [opened.kernel_format] if device and opened else list(_SUFFIXES)
    if formats == ["none"]:
        raise ValueError(f"{device} executes no kernels; name another device, or none")
    with _progress.shown():
        chosen = _of_model(model, opened, dtype) if model else _defaults(dtype)
        written = [] if emit is None else _emit_all(emit, chosen, formats, opened)
        if emit is not None and model:
            written.append(_write_index(emit, chosen))
    if json:
        facts: dict[str, Any] = {"kernels": sorted({request.name for _, request in chosen})}
        if model:
            facts["variants"] = {stem: request.key for stem, request in chosen}
        print_json({**facts, "formats": formats, "files": written})
    elif emit is None:
        print("\n".join(request.key if model else stem for stem, request in chosen))
    else:
        print(f"{len(written)} files of {len(chosen)} kernels in {emit}")


def _defaults(dtype: str) -> list[tuple[str, _core.KernelRequest]]:
    """Every kernel in its default variant, under its name."""
    result = []
    for name in sorted(_core.kernel_names()):
        request = _core.KernelRequest(name)
        if dtype != "float32":
            with contextlib.suppress(ValueError):  # it has no type T
                typed = _core.KernelRequest(name, types={"T": dtype})
                _core.print_kernel(typed, "opencl")
                request = typed
        result.append((name, request))
    return result


def _of_model(
    source: str, device: _core.Device | None, dtype: str
) -> list[tuple[str, _core.KernelRequest]]:
    """Every variant that a model needs, also to prepare its weights, under NAME-HASH."""
    from dlk.model import Model
    from dlk.sources import load_structure

    assert device is not None
    model = Model(load_structure(source), device.id, dtype)
    model.plan()
    named = {
        f"{request.name}-{hashlib.sha256(request.key.encode()).hexdigest()[:8]}": request
        for request in _core.built_kernels(model.device.handle)
    }
    return sorted(named.items())


def _emit_all(
    folder: Path,
    chosen: list[tuple[str, _core.KernelRequest]],
    formats: list[str],
    device: _core.Device | None,
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for i, (stem, request) in enumerate(chosen):
        for form in formats:
            written += _emit(folder / stem, request, form, device)
        _progress.report("writing kernels", i + 1, len(chosen))
    return written


def _emit(
    path: Path, request: _core.KernelRequest, form: str, device: _core.Device | None
) -> list[Path]:
    # Another device's limits say nothing about a language that it does not take.
    caps = device if device is not None and device.kernel_format == form else None
    try:
        code: dict[str, Any] = _core.print_kernel(request, form, caps)
    except NotImplementedError:  # the device lacks what the kernel needs
        return []
    text = path.with_name(path.name + _SUFFIXES[form])
    write_text(text, code.pop("code"))
    interface = path.with_name(f"{path.name}.{form}.json")
    write_text(interface, json_module.dumps({"key": request.key, **code}, indent=1) + "\n")
    files = [text, interface]
    if form == "glsl" and _core.glslang_version():
        binary = path.with_name(path.name + ".spv")
        with atomic_path(binary) as temporary:
            temporary.write_bytes(_core.compile_glsl(text.read_text("utf-8"), request.name))
        files.append(binary)
    return files


def _write_index(folder: Path, chosen: list[tuple[str, _core.KernelRequest]]) -> Path:
    """index.json: the variant that each file name stands for."""
    path = folder / "index.json"
    table = {stem: request.key for stem, request in chosen}
    write_text(path, json_module.dumps(table, indent=1) + "\n")
    return path
