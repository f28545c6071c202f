"""What `import dlk` costs."""

from __future__ import annotations

import subprocess
import sys

LIMIT_MS = 150


def importtime_ms() -> float:
    """The cumulative import time of dlk in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import dlk"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.rsplit("|", 1)[-1].strip() == "dlk"]
    return float(lines[-1].split("|")[1]) / 1e3


def test_import_is_quick() -> None:
    best = min(importtime_ms() for _ in range(3))
    assert best < LIMIT_MS, f"import dlk takes {best:.0f} ms"


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, dlk; "
        "print([m for m in ('numpy', 'onnx', 'PIL', 'rich', 'typer', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_works_without_drivers() -> None:
    """No loader is opened by the import, and a missing one is told in words."""
    code = (
        "import os; os.environ.update(DLK_OPENCL_LIBRARY='/nowhere/libOpenCL.so', "
        "DLK_VULKAN_LIBRARY='/nowhere/libvulkan.so', DLK_DEVICE='')\n"
        "import dlk\n"
        "assert dlk.devices() == [], dlk.devices()\n"
        "report = dlk._core.backends_report()\n"
        "assert '/nowhere/libOpenCL.so' in report['opencl'], report\n"
        "assert '/nowhere/libvulkan.so' in report['vulkan'], report\n"
        "try:\n    dlk.Device('vulkan')\n"
        "except ValueError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "vulkan" in done.stdout
    assert "/nowhere/libvulkan.so" in done.stdout
