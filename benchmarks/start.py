"""First answers of a new process: from an empty cache, from dlk's warm cache, from a bundle.

    python benchmarks/start.py --devices vulkan,opencl --output FILE

Each answer is a process of its own in which the drivers keep no cache. The clock starts after
dlk's modules are imported: it covers opening the device, reading the model file, planning,
compiling, sending the weights, the first run and reading its output back. ``device_ms`` of that is
the driver's own start. ``phases`` says where the rest goes: [count, milliseconds added over
threads]. All answers must be the first one's.

empty: dlk's cache folder is empty and the package is as it is installed, with the kernel packs that
ship in it (``dlk pack``); "pack" in a row says whether any kernel came from one. --no-packs leaves
them out. second: the start after that, which may turn what drivers compile anew in each process
into machine code. warm: later starts. bundle: no cache at all, the plan and the kernels come from
the model file (``dlk convert --target``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machine import machine

NO_DRIVER_CACHES = {
    "CUDA_CACHE_DISABLE": "1",
    "__GL_SHADER_DISK_CACHE": "0",
    "MESA_SHADER_CACHE_DISABLE": "true",
    "MESA_GLSL_CACHE_DISABLE": "true",
    "POCL_KERNEL_CACHE": "0",
}
STARTS = ("empty", "second", "warm", "warm", "warm", "bundle", "bundle", "bundle")

START = """
import json, sys, time
import numpy as np
from dlk import Device, Model, _core
path, spec, dtype = sys.argv[1:]
x = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
times = [time.perf_counter()]
device = Device(spec)
times.append(time.perf_counter())
graph = _core.load_dlk(path)
times.append(time.perf_counter())
model = Model(graph, device, dtype)
times.append(time.perf_counter())
(answer,) = model.run({next(iter(model.inputs)): x}).values()
times.append(time.perf_counter())
names = ("device_ms", "load_ms", "model_ms", "run_ms")
result = {n: 1e3 * (b - a) for n, a, b in zip(names, times, times[1:])}
result["first_answer_ms"] = 1e3 * (times[-1] - times[0])
result["after_device_ms"] = 1e3 * (times[-1] - times[1])
result["kernels"] = _core.kernel_stats(device.handle)
result["pack"] = result["kernels"]["pack_hits"] > 0
result["bundled"] = model.bundled
result["phases"] = _core.phase_times()
result["sum"] = float(np.abs(answer).sum())
print(json.dumps(result))
"""


def run(command: list[str], seconds: float, **environment: str) -> str:
    """Standard output of a Python program; an error says what went wrong."""
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=seconds, check=False,
        env={**os.environ, **NO_DRIVER_CACHES, **environment},
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def measure(device: str, network: str, dtype: str, seconds: float) -> list[dict[str, Any]]:
    """One row a start of `network` on `device`; a row with an error where one fails."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        plain, bundled = f"{folder}/plain.dlk", f"{folder}/bundle.dlk"
        convert = ["-m", "dlk", "convert", network, "--weights", "random", "--dtype", dtype]
        run([*convert, plain], seconds)
        for cache in STARTS:
            row: dict[str, Any] = {"device": device, "dtype": dtype, "cache": cache}
            rows.append(row)
            try:
                if cache == "bundle" and not Path(bundled).exists():
                    run([*convert, bundled, "--target", device], seconds, DLK_CACHE="0")
                settings = (
                    {"DLK_CACHE": "0", "DLK_BUNDLE": "require"}
                    if cache == "bundle"
                    else {"DLK_CACHE_DIR": f"{folder}/cache"}
                )
                path = bundled if cache == "bundle" else plain
                row |= json.loads(run(["-c", START, path, device, dtype], seconds, **settings))
                first = rows[0].get("sum", row["sum"])
                if abs(row["sum"] - first) > 1e-3 * abs(first):
                    raise RuntimeError(f"the answer's sum is {row['sum']}, was {first}")
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                row["error"] = str(error)
            print(device, cache, row.get("first_answer_ms"), row.get("after_device_ms"),
                  row.get("error", ""), flush=True)  # fmt: skip
    return rows


def main() -> int:
    form = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--devices", default="vulkan,opencl")
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--seconds", type=float, default=60, help="limit of one process")
    parser.add_argument("--no-packs", action="store_true", help="without packs of kernels")
    parser.add_argument("--output", type=Path, required=True)
    chosen = parser.parse_args()
    if chosen.no_packs:
        os.environ["DLK_KERNEL_PACKS"] = "0"
    rows: list[dict[str, Any]] = []
    for device in chosen.devices.split(","):
        try:
            rows += measure(device, chosen.network, chosen.dtype, chosen.seconds)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            rows.append({"device": device, "cache": "", "error": str(error)})
            print(device, error, file=sys.stderr)
        result = {
            "machine": machine(),
            "network": f"{chosen.network} {chosen.dtype} batch 1, random weights",
            "driver_caches": "disabled",
            "packs": "none" if chosen.no_packs else "as installed",
            "rows": rows,
        }
        chosen.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
