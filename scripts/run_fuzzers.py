#!/usr/bin/env python3
"""Runs the fuzzers of a build of tests/fuzz for a while.

    python scripts/run_fuzzers.py build/fuzz --seconds 20
    python scripts/run_fuzzers.py build/fuzz --only fuzz_dialect --seconds 3600

New inputs are kept in BUILD/corpus/TARGET. What fails lies in BUILD/findings/TARGET-*; give such a
file to BUILD/TARGET to see it again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def fuzz(build: Path, target: str, seconds: int) -> tuple[str, bool, str]:
    """Target, whether nothing was found, and the end of its output."""
    corpus, findings = build / "corpus" / target, build / "findings"
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    seeds = [build / "seeds" / target]
    if target == "fuzz_dialect":
        seeds = [ROOT / "kernels"]
    arguments = [
        str(build / target), f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048",
        "-malloc_limit_mb=1024", "-max_len=20000", "-print_final_stats=1",
        f"-artifact_prefix={findings}/{target}-",
        str(corpus), *(str(seed) for seed in seeds if seed.is_dir()),
    ]  # fmt: skip
    done = subprocess.run(
        arguments, capture_output=True, text=True, errors="replace", timeout=seconds + 300
    )
    return target, done.returncode == 0, done.stderr[-6000:]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("build", type=Path, help="folder of a build of tests/fuzz")
    parser.add_argument("--seconds", type=int, default=20, help="for each target")
    parser.add_argument("--only", action="append", help="this target")
    chosen = parser.parse_args()
    build = chosen.build.resolve()
    there = sorted(p.stem for p in (ROOT / "tests" / "fuzz").glob("fuzz_*.cpp"))
    targets = chosen.only or there
    if unknown := set(targets) - set(there):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(there)}")
    subprocess.run([str(build / "make_seeds"), str(build / "seeds")], check=True)
    failed = 0
    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        for target, passed, output in pool.map(
            lambda target: fuzz(build, target, chosen.seconds), targets
        ):
            runs = output.rpartition("stat::number_of_executed_units:")[2].split("\n")[0].strip()
            print(f"{'passed' if passed else 'FAILED'}  {target}  {runs} inputs", flush=True)
            if not passed:
                print(output, flush=True)
                failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
