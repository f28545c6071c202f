"""A fuzz campaign whose counts go into a file of results:

    python -m tests.fuzz.record importer --executions 500000 --seed 1 --out FILE.json
    python -m tests.fuzz.record graph --executions 1000000 --build build/fuzz --out FILE.json

`importer` reads changed ONNX models (fuzz_importer.py); `graph` specializes, writes and reads
made-up graphs (fuzz_plan.cpp, in a build of tests/fuzz). Campaigns of one target add up.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COUNTED = ("executions", "crashes", "seconds")


def fuzz_graph(build: Path, executions: int, seed: int) -> dict[str, Any]:
    """fuzz_plan under libFuzzer; it ends at the first finding."""
    corpus, findings = build / "corpus" / "fuzz_plan", build / "findings"
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    command = [
        str(build / "fuzz_plan"), f"-runs={executions}", f"-seed={seed}", "-timeout=20",
        "-rss_limit_mb=2048", "-malloc_limit_mb=1024", "-max_len=600", "-print_final_stats=1",
        f"-artifact_prefix={findings}/fuzz_plan-", str(corpus),
    ]  # fmt: skip
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    units = done.stderr.rpartition("stat::number_of_executed_units:")[2].split("\n")[0].strip()
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
    return {
        "executions": int(units or 0),
        "crashes": int(done.returncode != 0),
        "seconds": round(time.monotonic() - start, 1),
    }


def fuzz_importer(executions: int, seed: int, crashes: Path | None) -> dict[str, Any]:
    """fuzz_importer.py in this process."""
    from . import fuzz_importer as target

    found = target.run(executions, seed, float("inf"), crashes)
    return {key: found[key] for key in (*COUNTED, "read", "refused", "outcomes", "slowest_s")}


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=("importer", "graph"))
    parser.add_argument("--executions", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--crashes", type=Path, help="a folder for files that went wrong")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.target == "graph":
        campaign = fuzz_graph(options.build.resolve(), options.executions, options.seed)
    else:
        campaign = fuzz_importer(options.executions, options.seed, options.crashes)
    campaign |= {"seed": options.seed, "commit": commit(), "machine": platform.machine()}
    report = json.loads(options.out.read_text()) if options.out.exists() else {}
    target = report.setdefault(options.target, {"campaigns": []} | dict.fromkeys(COUNTED, 0))
    target["campaigns"].append(campaign)
    for key in COUNTED:
        target[key] = round(target[key] + campaign[key], 1)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(campaign, indent=1))
    return int(campaign["crashes"] > 0)


if __name__ == "__main__":
    sys.exit(main())
