"""Counts of the onnx package's backend tests: `python -m tests.onnx [options] [PATTERN]...`.

Runs every test (or those whose names match one of the regular expressions) on each device, in
worker processes that are replaced when a driver takes one down. Prints the failures grouped by
operator and reason, then passed and failed by device; `--json PATH` writes everything,
`--page docs/onnx-coverage.md` the page of the docs. The exit status is 1 where a test failed that
`expected_failures` does not name, or passed that it does.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.conftest import device_ids

from .backend import names_of_tests
from .expected_failures import expected_failure
from .families import family_of
from .page import coverage_page
from .workers import Outcome, run_all


def _grouped(outcomes: list[Outcome]) -> dict[str, dict[str, list[str]]]:
    """Failures: family -> reason -> names."""
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        if not outcome.passed:
            groups[family_of(outcome.name)][outcome.reason].append(outcome.name)
    return groups


def _print_failures(device_id: str, outcomes: list[Outcome]) -> None:
    groups = _grouped(outcomes)
    for family, reasons in sorted(groups.items(), key=lambda item: item[0].lower()):
        total = sum(len(names) for names in reasons.values())
        print(f"{device_id} {family}: {total} failed")
        for reason, names in reasons.items():
            listed = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
            print(f"    {len(names):3} {reason[:220]}\n        {listed}")


def run(devices: list[str], patterns: list[str], workers: int) -> dict[str, Any]:
    """Everything that `--json` writes."""
    names = [n for n in names_of_tests() if not patterns or any(re.search(p, n) for p in patterns)]
    report: dict[str, Any] = {"tests": len(names), "devices": {}}
    for device_id in devices:
        start = time.monotonic()
        outcomes = run_all(device_id, names, workers)
        _print_failures(device_id, outcomes)
        report["devices"][device_id] = {
            "seconds": round(time.monotonic() - start, 1),
            "passed": sum(o.passed for o in outcomes),
            "failed": sum(not o.passed for o in outcomes),
            "unexpected": sorted(
                o.name for o in outcomes if o.passed == bool(expected_failure(o.name, device_id))
            ),
            "slowest": {o.name: o.seconds for o in sorted(outcomes, key=lambda o: -o.seconds)[:10]},
            "families": {
                family: [counts[True], counts[True] + counts[False]]
                for family, counts in sorted(_by_family(outcomes).items())
            },
            "failures": {o.name: o.reason for o in outcomes if not o.passed},
        }
    return report


def _by_family(outcomes: list[Outcome]) -> dict[str, Counter[bool]]:
    families: dict[str, Counter[bool]] = defaultdict(Counter)
    for outcome in outcomes:
        families[family_of(outcome.name)][outcome.passed] += 1
    return families


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", action="append", help="a device id; default: one a backend")
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--page", type=Path, help="write the coverage page of all tests here")
    parser.add_argument("-n", "--workers", type=int, default=2)
    parser.add_argument("patterns", nargs="*", help="run tests whose names match one of these")
    arguments = parser.parse_args()
    report = run(arguments.device or list(device_ids()), arguments.patterns, arguments.workers)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    if arguments.page:
        arguments.page.write_text(coverage_page(report), encoding="utf-8")
    summary = {
        device_id: {key: counts[key] for key in ("passed", "failed", "seconds")}
        | {"unexpected": len(counts["unexpected"])}
        for device_id, counts in report["devices"].items()
    }
    print(json.dumps({"tests": report["tests"], **summary}))
    return int(any(counts["unexpected"] for counts in report["devices"].values()))


if __name__ == "__main__":
    sys.exit(main())
