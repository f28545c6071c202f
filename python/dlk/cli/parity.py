"""``dlk parity``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

import dlk
from dlk import _core, _progress
from dlk.cli.common import JsonOption, print_json, print_table

__all__ = ["parity", "suite"]


def suite(module: str) -> ModuleType:
    """A module of the parity suite: installed as ``dlk._parity``, in a checkout tests/parity."""
    try:
        return importlib.import_module(f"dlk._parity.{module}")
    except ModuleNotFoundError as error:
        if error.name not in ("dlk._parity", f"dlk._parity.{module}"):
            raise
    root = Path(dlk.__file__).resolve().parents[2]
    if not (root / "tests" / "parity" / f"{module}.py").is_file():
        raise NotImplementedError("this installation has no parity suite; install the wheel again")
    if str(root) not in sys.path:
        sys.path.append(str(root))
    return importlib.import_module(f"tests.parity.{module}")


def parity(
    device: Annotated[
        str,
        typer.Option("--device", metavar="DEVICE", help="Only this device; default: all."),
    ] = "",
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="DTYPE", help="Only this dtype; default: all.")
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the slow cases.")] = False,
    op: Annotated[str, typer.Option("--op", metavar="NAME", help="Only this operator.")] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="P.json", help="Also write the passport (JSON and .html)."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check every operator and its gradient against NumPy in float64.

    The result is the parity passport: the worst error of each operator and dtype on each device,
    relative to the largest number and in units of the last place. The dtype "gradient" stands for
    float32 gradients against finite differences. Exits with 1 when a case fails.
    """
    harness, passport, gradients = suite("harness"), suite("passport"), suite("gradients")
    ids = [_core.open_device(device).id] if device else [d["id"] for d in _core.list_devices()]
    if not ids:
        raise ValueError("no device; `dlk devices` says why")
    cases = [
        c
        for c in harness.load_cases().values()
        if not (quick and c.slow) and (not op or c.op == op)
    ]
    variants = [v for v in harness.variants(iter(cases)) if dtype in ("", v.dtype)]
    differentiated = []
    if dtype in ("", "gradient"):
        differentiated = [
            c for c in gradients.gradient_cases() if op in ("", c.op) and not gradients.refusal(c)
        ]
    if not variants and not differentiated:
        raise ValueError("no case fits --op and --dtype")
    entries: list[dict[str, Any]] = []
    with _progress.shown():
        for device_id in ids:
            opened = _core.open_device(device_id)
            for i, variant in enumerate(variants):
                entries.append(passport.measure_one(variant.case, variant, opened))
                _progress.report(f"parity on {device_id}", i + 1, len(variants))
            for i, case in enumerate(differentiated):
                entries.append(gradients.measure_gradient(case, opened))
                _progress.report(f"gradients on {device_id}", i + 1, len(differentiated))
    result = passport.build(entries, [d for d in _core.list_devices() if d["id"] in ids])
    if output is not None:
        passport.write(result, output)
    if json:
        print_json(result)
    else:
        _print(result)
    if any(entry["status"] == "failed" for entry in entries):
        raise typer.Exit(1)


def _print(result: dict[str, Any]) -> None:
    rows, problems = [], []
    for device, operators in result["forward"].items():
        for op, dtypes in operators.items():
            for dtype, cell in dtypes.items():
                good = cell["cases"] - cell["failed"] - cell["unsupported"]
                error = (f"{cell['relative']:.1e}", f"{cell['ulp']:.1f}") if good else ("", "")
                rows.append((device, op, dtype, good, cell["failed"] or "",
                             cell["unsupported"] or "", *error))  # fmt: skip
                if cell["failed"]:
                    problems += [f"{device}  {p['case']}: {p['reason']}" for p in cell["problems"]]
    titles = ("device", "operator", "dtype", "right", "failed", "unsupported", "worst relative",
              "worst ulp")  # fmt: skip
    print_table(titles, rows, "lllrrrrr")
    for line in problems[:20]:
        print(line)
    for device, operators in result["forward"].items():
        cells = [cell for dtypes in operators.values() for cell in dtypes.values()]
        print(
            f"{device}: {len(operators)} operators, {sum(c['cases'] for c in cells)} cases, "
            f"{sum(c['failed'] for c in cells)} failed, "
            f"{sum(c['unsupported'] for c in cells)} unsupported"
        )
