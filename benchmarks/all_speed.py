"""Every figure of the speed targets on one GPU, in one call: results beside benchmarks/results/.

    python benchmarks/all_speed.py --output FOLDER --label h200

Each part is a process of its own with a time limit, so that one that fails or hangs costs no other.
Files are named as scripts/acceptance_rows/speed.py looks for them: DATE-LABEL-speed-batch1.json,
-speed-batch64.json, both also with -fp32, -tiles.json, -ops.json and -start.json.
--tiny does very little of each, to try it out.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machine import machine

HERE = Path(__file__).resolve().parent
NETWORKS = "squeezenet1_1,mobilenet_v2,resnet50,inception_v3,vgg16,nin_imagenet"
OPS = (
    ("op:gemm:4096", "float16", ""),
    ("op:gemm:4096", "float16", "mma"),
    ("op:gemm:4096", "float16", "coopmat"),
    ("op:gemm:4096", "float32", ""),
    ("op:gemm:4096", "int8", ""),
    ("op:lstm:32,20,64,200", "float32", ""),
    ("op:lstm:32,20,64,200", "float16", ""),
)
"""Target, dtype, and DLK_MATRIX_UNITS: "coopmat" is of Vulkan alone."""
TINY_OPS = (
    ("op:gemm:64", "float32", ""),
    ("op:gemm:64", "float16", "mma"),
    ("op:gemm:64", "int8", ""),
    ("op:lstm:2,3,8,8", "float32", ""),
)
SECONDS = {
    "batch1": 150, "batch64": 150, "tiles": 120, "ops": 200, "start": 180,
    "batch1-fp32": 150, "batch64-fp32": 150,
}  # fmt: skip


def run(command: list[str], seconds: float, environment: dict[str, str] | None = None) -> str:
    """Standard output; empty, with the reason on stderr, where it fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds,
            env={**os.environ, **(environment or {})}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        print(f"{command}: no answer in {seconds} s: {error.stderr!r}"[-2000:], file=sys.stderr)
        return ""
    if done.returncode != 0:
        print(f"{command}: exit {done.returncode}: {done.stderr}"[-3000:], file=sys.stderr)
    else:  # notices, of tiles that are not used, say
        sys.stderr.write(done.stderr)
    return done.stdout


def networks(output: Path, part: str, chosen: argparse.Namespace) -> None:
    batch, _, suffix = part.removeprefix("batch").partition("-")
    dtype, peers = ("float32", chosen.peers_fp32) if suffix else ("float16", chosen.peers)
    names, long = ("squeezenet1_1", "0.01") if chosen.tiny else (NETWORKS, "1")
    if chosen.tiny:
        batch = str(min(int(batch), 2))
    run(
        [sys.executable, str(HERE / "networks.py"), "--networks", names, "--devices",
         chosen.devices, "--dtype", dtype, "--batch", batch, "--peers", peers, "--seconds", long,
         "--output", str(output)],
        SECONDS[part],
    )  # fmt: skip
    if output.exists():
        summary(output)


def tiles(output: Path, chosen: argparse.Namespace) -> None:
    """The algorithms and the cost model's own tiles on twelve shapes."""
    seconds = SECONDS["tiles"]
    print(run(
        [sys.executable, str(HERE / "conv_tiles.py"), "--devices", chosen.devices, "--set",
         "twelve", "--few", "--seconds", "0.02", "--dtypes", "float32,float16",
         "--budget", "5" if chosen.tiny else str(seconds - 10), "--output", str(output)],
        seconds,
    ))  # fmt: skip


def ops(output: Path, devices: str, seconds: float, against: str, tiny: bool) -> None:
    rows: list[dict[str, Any]] = []
    where = machine()
    for device in devices.split(","):
        for target, dtype, units in TINY_OPS if tiny else OPS:
            if units == "coopmat" and not device.startswith("vulkan"):
                continue
            command = [sys.executable, "-m", "dlk", "bench", target, "--device", device,
                       "--dtype", dtype, "--json", "--runs", "30" if tiny else "50"]  # fmt: skip
            if against:
                command += ["--against", against]
            asked = {"DLK_MATRIX_UNITS": units} if units else {}
            text = run(command, seconds / 4, asked)
            if not text:
                continue
            rows.append({"command": " ".join(command[1:]), **asked, **json.loads(text)})
            peer = rows[-1].get("torch", {}).get("pipelined_ms")
            print(target, dtype, units, device, rows[-1]["pipelined_ms"], "torch", peer, flush=True)
            output.write_text(json.dumps({"machine": where, "rows": rows}, indent=1) + "\n")


def start(output: Path, devices: str, seconds: float) -> None:
    """First answers from an empty cache, dlk's warm cache and a bundle; drivers keep none."""
    print(run(
        [sys.executable, str(HERE / "start.py"), "--devices", devices, "--output", str(output),
         "--seconds", str(seconds / 4)],
        seconds,
    ))  # fmt: skip


def summary(output: Path) -> None:
    for row in json.loads(output.read_text())["rows"]:
        value = row.get("pipelined_ms", row.get("error"))
        print(row["network"], row["engine"], row["batch"], value)


def main() -> int:
    form = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--label", default="h200")
    parser.add_argument("--devices", default="vulkan,opencl")
    parser.add_argument("--parts", default=",".join(SECONDS))
    parser.add_argument("--peers", default="torch-fp16", help="of the networks in float16")
    parser.add_argument("--peers-fp32", default="torch-fp32", help="of those in float32")
    parser.add_argument("--against", default="torch", help="of the operators")
    parser.add_argument("--tiny", action="store_true", help="little work, to try it out")
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    stem = str(chosen.output / f"{datetime.date.today().isoformat()}-{chosen.label}")
    for part in chosen.parts.split(","):
        if part not in SECONDS:
            parser.error(f"no part {part}; there are {', '.join(SECONDS)}")
    missing = []
    for part in chosen.parts.split(","):
        name = f"speed-{part}" if part.startswith("batch") else part
        path = Path(f"{stem}-{name}.json")
        if part.startswith("batch"):
            networks(path, part, chosen)
        elif part == "tiles":
            tiles(path, chosen)
        elif part == "ops":
            ops(path, chosen.devices, SECONDS[part], chosen.against, chosen.tiny)
        else:
            start(path, chosen.devices, SECONDS[part])
        if not path.exists() or not json.loads(path.read_text())["rows"]:
            missing.append(part)
    if missing:
        print("no results of " + ", ".join(missing), file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
