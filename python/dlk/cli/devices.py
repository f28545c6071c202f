"""``dlk devices``."""

from __future__ import annotations

import shutil
import textwrap
from typing import Annotated, Any

import typer

from dlk import _core
from dlk.cli.common import DeviceOption, JsonOption, check_dtype, print_json

__all__ = ["devices"]


def devices(
    device: DeviceOption = "",
    dtype: Annotated[
        str,
        typer.Option("--dtype", metavar="DTYPE", help="Only devices that can store this dtype."),
    ] = "",
    json: JsonOption = False,
) -> None:
    """List the devices, the best first, and why a backend has none."""
    found: list[dict[str, Any]] = _core.list_devices()
    if device:
        chosen = _core.open_device(device).id
        found = [caps for caps in found if caps["id"] == chosen]
    if dtype and check_dtype(dtype) == "float16":
        found = [caps for caps in found if caps["fp16"]]
    found.sort(key=lambda caps: bool(caps["is_cpu"]))  # as the default device is chosen
    if json:
        print_json(found)
        return
    for caps in found:
        _show(caps)
    if not found:
        print("no devices")
    for backend, reason in _core.backends_report().items():
        if reason:
            print(f"{backend}: {reason}")
    if not _core.glslang_version():
        print("this build has no glslang: Vulkan devices cannot compile kernels")


_NOT_FEATURES = frozenset({"fp16", "is_cpu"})


def _show(caps: dict[str, Any]) -> None:
    kind = "on the CPU" if caps["is_cpu"] else "GPU"
    print(f"{caps['id']}  {caps['name']}  ({kind}, {caps['memory_bytes'] / 2**30:.1f} GiB)")
    features = ", ".join(
        name for name, on in caps.items() if on is True and name not in _NOT_FEATURES
    )
    width = min(shutil.get_terminal_size().columns, 120)
    driver = f"{' '.join(caps['driver'].split())}, API {caps['api_version']}"
    for title, text in (("driver", driver), ("features", features)):
        lines = textwrap.wrap(text, width, initial_indent=f"    {title:<10}",
                              subsequent_indent=" " * 14)  # fmt: skip
        print("\n".join(lines))
