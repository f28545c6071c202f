#!/usr/bin/env python3
"""Checks who includes what, and that files stay small. Run by CI; prints every breach.

The rules are those of docs/architecture.md: the device layer knows the standard library only,
backends know the device layer and their own API, operators know no backend, nothing knows Python.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.MULTILINE)
NATIVE = re.compile(r"(^|/)(CL/|vulkan/|OpenCL/|Metal/|vk_|metal_cpp)", re.IGNORECASE)
BACKENDS = ("null", "opencl", "vulkan", "metal")

MAY_INCLUDE = {
    "core/base": ("core/base",),
    "core/device": ("core/base", "core/device"),
    "core/kernel": ("core/base", "core/device", "core/kernel"),
    "core/graph": ("core/base", "core/graph", "core/ops", "core/kernel", "core/device"),
    "core/ops": ("core/base", "core/graph", "core/ops", "core/kernel", "core/device"),
    "core/train": ("core/base", "core/graph", "core/ops", "core/device", "core/train"),
    "core/model": ("core/base", "core/graph", "core/model"),
    "core/runtime": (
        "core/base", "core/device", "core/kernel", "core/graph", "core/ops", "core/runtime",
    ),
}  # fmt: skip
"""Which folders of the project the files of a folder may include."""

LINE_LIMIT = 520
LONGER = {
    "tests/cpp/device_conformance.h": "one list of checks that every backend includes",
    "core/ops/elementwise.def": "a table",
    "python/dlk/_core.pyi": "generated from the bindings",
}


def breaches_of(path: Path) -> list[str]:
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8", errors="replace")
    found = []
    lines = text.count("\n")
    if lines > LINE_LIMIT and name not in LONGER:
        found.append(f"{name}: {lines} lines; split it (limit {LINE_LIMIT}) or give a reason here")
    if path.suffix not in (".h", ".hpp", ".cpp", ".c"):
        return found
    folder = "/".join(name.split("/")[:2])
    for include in INCLUDE.findall(text):
        if folder.startswith("core/") and NATIVE.search(include):
            found.append(f"{name}: includes the native header {include}")
        ours = include.startswith(("core/", "backends/", "python/"))
        target = "/".join(include.split("/")[:2])
        if ours and folder in MAY_INCLUDE and target not in MAY_INCLUDE[folder]:
            found.append(f"{name}: must not include {include}")
        if name.startswith("backends/"):
            found += _backend_breaches(name, include)
    if name.startswith(("core/ops/", "tests/parity/")):
        for backend in ("opencl", "vulkan", "metal"):
            if re.search(rf'"{backend}[":]', text):
                found.append(f"{name}: names the backend {backend}; ask Caps instead")
    return found


def _backend_breaches(name: str, include: str) -> list[str]:
    own = name.split("/")[1]
    others = [b for b in BACKENDS if b != own]
    if any(include.startswith(f"backends/{other}/") for other in others):
        return [f"{name}: includes another backend: {include}"]
    if include.startswith(("core/ops", "core/graph", "core/runtime", "core/model", "python/")):
        return [f"{name}: a backend must not include {include}"]
    return []


def main() -> int:
    folders = (
        "core",
        "backends",
        "python",
        "tests",
        "scripts",
        "kernels",
        "examples",
        "benchmarks",
    )
    suffixes = {".h", ".hpp", ".cpp", ".c", ".py", ".k", ".def", ".pyi", ".cmake"}
    breaches = [
        breach
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in suffixes and path.is_file()
        for breach in breaches_of(path)
    ]
    print("\n".join(breaches) or "structure: every rule holds")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
