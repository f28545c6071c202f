"""``dlk devices``."""

from __future__ import annotations

from typing import Any

from dlk import _core
from dlk.cli.common import DeviceOption, JsonOption, check_dtype, print_json, print_table

__all__ = ["devices"]


def devices(device: DeviceOption = "", dtype: str = "", json: JsonOption = False) -> None:
    """List the devices, and why a backend has none.

    --device shows that one only, --dtype those that can store it.
    """
    found: list[dict[str, Any]] = _core.list_devices()
    if device:
        chosen = _core.open_device(device).id
        found = [caps for caps in found if caps["id"] == chosen]
    if dtype and check_dtype(dtype) == "float16":
        found = [caps for caps in found if caps["fp16"]]
    if json:
        print_json(found)
        return
    rows = []
    for caps in found:
        features = [name for name, on in caps.items() if on is True and name not in _SHOWN]
        memory = f"{caps['memory_bytes'] / 2**30:.1f} GiB"
        driver = f"{caps['driver']} (API {caps['api_version']})"
        rows.append((caps["id"], caps["name"], driver, memory, ", ".join(features)))
    if rows:
        print_table(("id", "name", "driver", "memory", "features"), rows, "lllr")
    else:
        print("no devices")
    for backend, reason in _core.backends_report().items():
        if reason:
            print(f"{backend}: {reason}")
    if not _core.glslang_version():
        print("this build has no glslang: Vulkan devices cannot compile kernels")


_SHOWN = frozenset({"fp16", "is_cpu"})
