"""The coverage page of the docs, from a report of `python -m tests.onnx`."""

from __future__ import annotations

from typing import Any

from .expected_failures import GROUPS

HEAD = """# ONNX coverage

Tests of the onnx package's backend suite that pass, by operator and device. Dtypes and shapes must
be exact, values within the suite's own tolerances, and whatever is a number must have been computed
by the device: on the host are evaluated only shape arithmetic (integers, at most 1,024 elements),
strings, the structure of sequences and optionals, and the decisions of control flow.

`python -m tests.onnx --page docs/onnx-coverage.md` writes this page; `pytest tests/onnx` runs the
same tests.

"""


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def coverage_page(report: dict[str, Any]) -> str:
    """Markdown: totals, the failures with their reasons, then a row for each operator."""
    devices = report["devices"]
    names = list(devices)
    totals = [
        [device, str(counts["passed"]), str(counts["passed"] + counts["failed"])]
        for device, counts in devices.items()
    ]
    families = sorted({f for d in devices.values() for f in d["families"]}, key=str.lower)
    rows = []
    for family in families:
        cells = []
        for device in names:
            passed, tests = devices[device]["families"].get(family, (0, 0))
            cells.append(str(tests) if passed == tests else f"**{passed} of {tests}**")
        rows.append([family, *cells])
    text = HEAD + _table(["device", "passed", "tests"], totals)
    if GROUPS:
        text += "\n## What fails, and why\n\n"
        for group in GROUPS:
            failing = {n for d in devices.values() for n in d["failures"] if group.matches(n)}
            where = "" if group.backend == "*" else f" ({group.backend})"
            text += f"- {len(failing)} tests{where}: {group.reason}\n"
    return text + "\n## By operator\n\n" + _table(["operator", *names], rows)
