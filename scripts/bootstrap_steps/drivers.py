"""Unpacked drivers: how loaders find them, and how they find their own libraries."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from .place import DEPS

__all__ = ["opencl_folder", "unpacked"]

VENDORS = DEPS / "vendors"


def unpacked(
    library: Path, vulkan_files: Path, names: list[str], tool: Callable[[str], str]
) -> dict[str, str]:
    """Variables with which loaders find the drivers of the unpacked packages `names`.

    Args:
        library: the folder of unpacked libraries, ``.../usr/lib/MULTIARCH``.
        vulkan_files: the folder of unpacked Vulkan driver descriptions.
        tool: installs a program by name and returns its path.
    """
    variables = {}
    if "pocl-opencl-icd" in names or "mesa-vulkan-drivers" in names:
        find_neighbours(library, tool("patchelf"))
    if "ocl-icd-libopencl1" in names:
        variables["DLK_OPENCL_LIBRARY"] = str(library / "libOpenCL.so.1")
    if "libvulkan1" in names:
        variables["DLK_VULKAN_LIBRARY"] = str(library / "libvulkan.so.1")
    if "pocl-opencl-icd" in names:
        variables["OCL_ICD_VENDORS"] = opencl_folder(next(library.glob("libpocl.so.*.*")))
    if "mesa-vulkan-drivers" in names:
        files = vulkan_driver_files(library, vulkan_files)
        variables["VK_DRIVER_FILES"] = variables["VK_ICD_FILENAMES"] = files
    if "vulkan-validationlayers" in names:
        layers = vulkan_files.parent / "explicit_layer.d"
        for file in layers.glob("*.json"):
            rewrite_library_path(file, file, library)
        variables["VK_ADD_LAYER_PATH"] = variables["VK_LAYER_PATH"] = str(layers)
    return variables


def find_neighbours(library: Path, patchelf: str) -> None:
    """Makes the unpacked libraries look for each other where they lie."""
    for file in library.glob("*.so*"):
        if file.is_symlink() or not file.is_file() or file.read_bytes()[:4] != b"\x7fELF":
            continue
        subprocess.run([patchelf, "--set-rpath", "$ORIGIN", str(file)], check=True)


def opencl_folder(driver: Path) -> str:
    """A folder for OCL_ICD_VENDORS: this driver beside those of the system."""
    VENDORS.mkdir(parents=True, exist_ok=True)
    for stale in VENDORS.glob("*.icd"):
        stale.unlink()
    for file in Path("/etc/OpenCL/vendors").glob("*.icd"):
        (VENDORS / file.name).write_bytes(file.read_bytes())
    (VENDORS / "dlk-opencl.icd").write_text(f"{driver}\n")
    return f"{VENDORS}/"  # some loaders put the file's name right behind it


def vulkan_driver_files(library: Path, folder: Path) -> str:
    """The descriptions of the CPU driver and of the system's drivers, as VK_DRIVER_FILES."""
    VENDORS.mkdir(parents=True, exist_ok=True)
    source = next(folder.glob("lvp_icd*.json"))
    target = VENDORS / source.name
    rewrite_library_path(source, target, library)
    system = [
        file
        for place in ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d")
        for file in sorted(Path(place).glob("*.json"))
    ]
    return os.pathsep.join(str(file) for file in (*system, target))


def rewrite_library_path(source: Path, target: Path, library: Path) -> None:
    """The description with the absolute path of its library."""
    text = json.loads(source.read_text())
    part = text.get("ICD") or text["layer"]
    part["library_path"] = str(library / Path(part["library_path"]).name)
    target.write_text(json.dumps(text))
