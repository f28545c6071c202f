"""Where and how a result was measured: date, version, command, processors, GPU, drivers."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import dlk

__all__ = ["command", "machine"]


def command() -> str:
    """The running program as it is called in the project's folder; paths elsewhere by name."""
    name, *arguments = sys.argv
    short = [Path(word).name if Path(word).is_absolute() else word for word in arguments]
    return " ".join(["python", f"benchmarks/{Path(name).name}", *short])


def machine() -> dict[str, Any]:
    """The machine and the command, as results keep them under ``machine``."""
    found: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "dlk": dlk.__version__,
        "command": command(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "devices": [
            {"id": d.id, "name": d.name, "driver": d.caps["driver"]} for d in dlk.devices()
        ],
    }
    try:
        found["gpu"] = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        found["gpu"] = None
    return found
