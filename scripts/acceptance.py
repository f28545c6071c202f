#!/usr/bin/env python3
"""What an issue asks to be shown, measured: ``python scripts/acceptance.py ISSUE [--json]``.

Each row is {name, value, limit, pass}. Rows that need a GPU or a long run read the newest committed
result under ``benchmarks/results/`` and say so in their name. The exit status is 1 if a row fails.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

MODULES = {
    "2": "acceptance_rows.foundation",
    "3": "acceptance_rows.onnx",
    "4": "acceptance_rows.metal",
    "5": "acceptance_rows.speed",
    "6": "acceptance_rows.training",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("issue", choices=sorted(MODULES))
    parser.add_argument("--json", action="store_true", help="one JSON list on stdout")
    parser.add_argument("--only", default="", help="rows whose name contains this text")
    chosen = parser.parse_args()
    rows = []
    for name, measure in importlib.import_module(MODULES[chosen.issue]).rows():
        if chosen.only not in name:
            continue
        try:
            with contextlib.redirect_stdout(sys.stderr):  # reports of what is measured
                value, limit, passed = measure()
        except Exception as error:  # a row that cannot be measured has failed
            traceback.print_exc()
            value, limit, passed = f"{type(error).__name__}: {error}", "to be measured", False
        rows.append({"name": name, "value": value, "limit": limit, "pass": bool(passed)})
        if not chosen.json:
            print(f"{'pass' if passed else 'FAIL'}  {name}: {value} (limit {limit})", flush=True)
    if chosen.json:
        print(json.dumps(rows, indent=1))
    return 0 if rows and all(row["pass"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
