#!/usr/bin/env python3
"""Times the build and the tests: ``python scripts/measure_timings.py OUTPUT.json [--only build]``.

- ``clean_build_s``: configure and build the Python extension in a clean clone, without ccache.
- ``incremental_kernel_s``: build again after a change in one kernel.
- ``tests_s``: the README's one command that sets up and tests, ``scripts/bootstrap.py test``
  without CI, in a clean clone without ccache, downloads of Python packages included.

Each is wall time; ``..._cpu_s`` beside it is the processor time of all its processes. On a machine
that others use at the same time, ``--busy`` records the processor time divided by the cores instead
of the wall time, which is kept as ``..._wall_s``, and says so under ``how``. Figures that are
already in OUTPUT.json and are not measured now are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CORES = len(os.sched_getaffinity(0))


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of a command; CalledProcessError if it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        command,
        cwd=folder,
        check=True,
        stdout=sys.stderr,
        env={**os.environ, "CCACHE_DISABLE": "1", "DLK_REQUIRE": "opencl,vulkan", "CI": ""},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, used


@contextlib.contextmanager
def clean_clone() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dlk-timing-") as folder:
        clone = Path(folder) / "dlk"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        yield clone


def build_times() -> dict[str, tuple[float, float]]:
    with clean_clone() as clone:
        build = ["cmake", "--build", "build", "--target", "_core", "-j", str(CORES)]
        configure = ["cmake", "-S", ".", "-B", "build", "-G", "Ninja", "-DDLK_BUILD_PYTHON=ON"]
        first = timed(configure, clone)
        second = timed(build, clone)
        kernel = clone / "kernels" / "pool.k"
        kernel.write_text(kernel.read_text() + "\n// changed\n")
        return {
            "clean_build": (first[0] + second[0], first[1] + second[1]),
            "incremental_kernel": timed(build, clone),
        }


def test_times() -> dict[str, tuple[float, float]]:
    with clean_clone() as clone:
        return {"tests": timed(["python3", "scripts/bootstrap.py", "test"], clone)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--only", choices=("build", "tests"))
    parser.add_argument("--busy", action="store_true", help="others use this machine now")
    chosen = parser.parse_args()
    result: dict[str, Any] = {}
    if chosen.output.exists():
        result = json.loads(chosen.output.read_text())
    load = os.getloadavg()[0]
    times: dict[str, tuple[float, float]] = {}
    if chosen.only != "tests":
        times |= build_times()
    if chosen.only != "build":
        times |= test_times()
    for name, (wall, used) in times.items():
        result[f"{name}_cpu_s"] = round(used, 1)
        result[f"{name}_load"] = round(load, 1)
        if chosen.busy:
            result[f"{name}_wall_s"] = round(wall, 1)
            result[f"{name}_s"] = round(used / CORES, 1)
        else:
            result[f"{name}_s"] = round(wall, 1)
    if chosen.busy:
        result["how"] = (
            "processor time / cores: the machine was busy with other work (see ..._load)"
        )
    result.update(
        date=datetime.date.today().isoformat(), cores=CORES, machine=platform.platform(),
        command=" ".join(["python", *sys.argv]),
    )  # fmt: skip
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
