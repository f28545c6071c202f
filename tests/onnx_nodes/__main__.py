"""Counts: `python -m tests.onnx_nodes [--device ID]... [--failures] [NAME]...`.

Prints one JSON object: tests in all, left out by reason, and for each device passed, failed and
expected to fail. The exit status is 1 when one failed that was not expected to.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter

from tests.conftest import device_ids, open_device

from .cases import all_cases, check, run_cases
from .expected_failures import expected_failure


def count(device_id: str, names: list[str], show: bool) -> dict[str, int]:
    """Runs the tests on one device."""
    counts: Counter[str] = Counter(passed=0, failed=0, expected_failures=0, unexpected_passes=0)
    device = open_device(device_id)
    for name in names:
        expected = expected_failure(name, device_id)
        try:
            check(name, device)
        except Exception as error:  # any failure is counted
            counts["expected_failures" if expected else "failed"] += 1
            if show:
                words = " ".join(str(error).split())[:200]
                print(f"{device_id} {name}: {type(error).__name__}: {words}", file=sys.stderr)
        else:
            counts["unexpected_passes" if expected else "passed"] += 1
    return dict(counts)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", action="append", help="a device id; default: one a backend")
    parser.add_argument("--failures", action="store_true", help="print failures to stderr")
    parser.add_argument("names", nargs="*", help="run these only")
    arguments = parser.parse_args()
    names = [n for n in run_cases() if not arguments.names or n in arguments.names]
    report = {
        "tests": len(all_cases()),
        "left_out": dict(Counter(case.left_out for case in all_cases() if case.left_out)),
        "run": len(names),
        "devices": {
            device_id: count(device_id, names, arguments.failures)
            for device_id in arguments.device or device_ids()
        },
    }
    print(json.dumps(report, indent=2))
    bad = ("failed", "unexpected_passes")
    return int(any(counts.get(k, 0) for counts in report["devices"].values() for k in bad))


if __name__ == "__main__":
    sys.exit(main())
