"""``dlk kernels``."""

from __future__ import annotations

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
        Path | None, typer.Option("--emit", metavar="DIR", help="Write the kernels' sources there.")
    ] = None,
    device: DeviceOption = "",
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> None:
    """List the kernels, or write what a device gets (without --device: all three languages).

    Each kernel is written in its default variant, with its calling convention as .json, and for
    Vulkan also as SPIR-V.
    """
    dtype = check_dtype(dtype)
    opened = _core.open_device(device) if device else None
    formats = [opened.kernel_format] if opened else list(_SUFFIXES)
    names = sorted(_core.kernel_names())
    written: list[Path] = []
    if emit is not None:
        emit.mkdir(parents=True, exist_ok=True)
        with _progress.shown():
            for i, name in enumerate(names):
                for form in formats:
                    written += _emit(emit, name, form, dtype, opened)
                _progress.report("kernels", i + 1, len(names))
    if json:
        print_json({"kernels": names, "formats": formats, "files": written})
        return
    if emit is None:
        print("\n".join(names))
    else:
        print(f"{len(written)} files of {len(names)} kernels in {emit}")


def _emit(
    folder: Path, name: str, form: str, dtype: str, device: _core.Device | None
) -> list[Path]:
    request = _core.KernelRequest(name, types={} if dtype == "float32" else {"T": dtype})
    try:
        code: dict[str, Any] = _core.print_kernel(request, form, device)
    except NotImplementedError:  # the device lacks what the kernel needs
        return []
    except ValueError:
        if dtype == "float32":
            raise
        code = _core.print_kernel(_core.KernelRequest(name), form, device)  # has no type T
    text = folder / f"{name}{_SUFFIXES[form]}"
    write_text(text, code.pop("code"))
    interface = folder / f"{name}.{form}.json"
    write_text(interface, json_module.dumps(code, indent=1) + "\n")
    files = [text, interface]
    if form == "glsl" and _core.glslang_version():
        binary = folder / f"{name}.spv"
        with atomic_path(binary) as temporary:
            temporary.write_bytes(_core.compile_glsl(text.read_text("utf-8"), name))
        files.append(binary)
    return files
