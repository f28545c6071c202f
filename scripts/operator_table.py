#!/usr/bin/env python3
"""Writes docs/operators.md from the operator registry and the parity suite's cases.

`python scripts/operator_table.py` writes the page; with `--check` it only compares, and exits with
1 where the page is old. The page lists what the registry holds; the element types are those in
which a parity case compares the operator with NumPy on every device.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "operators.md"
sys.path.insert(0, str(ROOT))

HEAD = """# Operators

Made by `python scripts/operator_table.py` from the registry; do not edit. *Opset* is the version of
the form that the engine implements: older ones are adapted by the importer. *Types* are those of
the first input in which parity cases compare the operator with NumPy on every device; operators
that only move elements take any type of the same width. *Gradient* is where training can go through
it. Operators of ONNX that are not listed are replaced, at import, by ONNX's definition of them.
"""

TYPE_ORDER = (
    *("float32", "float16", "bfloat16", "float64", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "bool"),
)


def _order(name: str) -> tuple[int, str]:
    return (TYPE_ORDER.index(name) if name in TYPE_ORDER else len(TYPE_ORDER), name)


def tested_types() -> dict[tuple[str, str], set[str]]:
    """(domain, operator) -> dtypes of the first input of its parity cases."""
    from tests.parity.harness import load_cases, make_inputs, variants

    types: dict[tuple[str, str], set[str]] = defaultdict(set)
    for variant in variants(iter(load_cases().values())):
        if variant.layout != "contiguous":
            continue
        key = (variant.case.domain, variant.case.op)
        if variant.dtype == "none":
            arrays = [a for a in make_inputs(variant).values() if a is not None]
            types[key] |= {np.asarray(a).dtype.name for a in arrays[:1]}
        else:
            types[key].add(variant.dtype)
    return types


def _row(op: dict[str, Any], types: set[str]) -> str:
    name = f"{op['domain']}.{op['name']}" if op["domain"] else op["name"]
    listed = ", ".join(sorted(types, key=_order))
    gradient = "yes" if op.get("gradient") else ""
    doc = str(op["doc"]).replace("|", "\\|")
    return f"| {name} | {op['since_version']} | {listed} | {gradient} | {doc} |"


def page() -> str:
    """The text of docs/operators.md."""
    from dlk import _core

    types = tested_types()
    rows = [_row(op, types[(op["domain"], op["name"])]) for op in _core.operators()]
    table = ["| operator | opset | types | gradient | |", "|---|---|---|---|---|", *rows]
    return HEAD + "\n" + "\n".join(table) + "\n"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    arguments = parser.parse_args()
    text = page()
    if arguments.check:
        same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        print("docs/operators.md is", "up to date" if same else "old: run operator_table.py")
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
