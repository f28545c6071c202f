"""The parity passport: for each operator, dtype and device the worst error, as JSON and HTML."""

from __future__ import annotations

import datetime
import html
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .case import Case
from .harness import load_cases, run_variant, variants


def entry(
    device_id: str,
    op: str,
    dtype: str,
    case_id: str,
    relative: float,
    ulp: float,
    status: str,
    reason: str = "",
) -> dict[str, Any]:
    """One result of one variant: `status` is passed, failed, xfailed or unsupported."""
    return {
        "device": device_id,
        "op": op,
        "dtype": dtype,
        "case": case_id,
        "relative": relative,
        "ulp": ulp,
        "status": status,
        "reason": reason,
    }


def build(entries: Iterable[dict[str, Any]], devices: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Folds single results into the passport: worst error by device, operator and dtype."""
    import dlk

    table: dict[str, dict[str, dict[str, Any]]] = {}
    for e in entries:
        by_dtype = table.setdefault(e["device"], {}).setdefault(e["op"], {})
        cell = by_dtype.setdefault(e["dtype"], _empty_cell())
        cell["cases"] += 1
        cell["failed"] += e["status"] in ("failed", "xfailed")
        cell["unsupported"] += e["status"] == "unsupported"
        if e["status"] != "passed":
            cell["problems"].append({"case": e["case"], "reason": e["reason"]})
        elif e["relative"] >= cell["relative"]:
            cell.update(relative=e["relative"], ulp=max(e["ulp"], cell["ulp"]), worst=e["case"])
    return {
        "dlk": dlk.__version__,
        "date": datetime.date.today().isoformat(),
        "devices": [{**d, "simulated": "(simulated)" in str(d["name"])} for d in devices],
        "forward": table,
    }


def merge(passports: list[dict[str, Any]]) -> dict[str, Any]:
    """One passport with the devices of all; of a device that several have, the last counts."""
    devices = {d["id"]: d for passport in passports for d in passport["devices"]}
    table = {name: cells for passport in passports for name, cells in passport["forward"].items()}
    return {**passports[-1], "devices": list(devices.values()), "forward": table}


def _empty_cell() -> dict[str, Any]:
    return {
        "cases": 0,
        "failed": 0,
        "unsupported": 0,
        "relative": 0.0,
        "ulp": 0.0,
        "worst": "",
        "problems": [],
    }


def measure(
    device: Any,
    quick: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Runs all cases (without the slow ones if `quick`) on an open device."""
    chosen = [c for c in load_cases().values() if not (quick and c.slow)]
    todo, entries = variants(iter(chosen)), []
    for i, variant in enumerate(todo):
        entries.append(measure_one(variant.case, variant, device))
        if progress:
            progress(i + 1, len(todo))
    return entries


def measure_one(c: Case, variant: Any, device: Any) -> dict[str, Any]:
    """Runs one variant. Whatever goes wrong is part of the result: other variants still count."""
    relative = ulp = 0.0
    status, reason = "failed", ""
    try:
        outcome = run_variant(variant, device)
        bound = c.tolerance_for(variant.dtype).bound
        if outcome.problem:
            reason = outcome.problem
        elif outcome.relative > bound:
            reason = f"error {outcome.relative:.2g}, allowed are {bound:.2g}"
        else:
            status, relative, ulp = "passed", outcome.relative, outcome.ulp
    except NotImplementedError as error:
        status, reason = "unsupported", str(error)
    except (RuntimeError, ValueError, MemoryError) as error:
        reason = f"{type(error).__name__}: {error}"
    return entry(device.id, c.op, variant.dtype, variant.id, relative, ulp, status, reason)


def write(passport: dict[str, Any], path: Path) -> None:
    """Writes PATH (JSON) and PATH with the suffix .html, each whole or not at all."""
    from dlk._atomic import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(passport, indent=1) + "\n")
    write_text(path.with_suffix(".html"), to_html(passport))


def to_html(passport: dict[str, Any]) -> str:
    """A page with one row an operator and dtype and one column a device."""
    devices = list(passport["forward"])
    rows = sorted(
        {(op, d) for t in passport["forward"].values() for op, ds in t.items() for d in ds}
    )
    names = {
        d["id"]: f"{html.escape(str(d['id']))}<br><small>{html.escape(str(d['name']))}<br>"
        f"{html.escape(str(d['driver']))}</small>"
        + ("<br><b>simulated</b>" if d.get("simulated") else "")
        for d in passport["devices"]
    }
    head = "".join(f"<th>{names.get(d, html.escape(d))}</th>" for d in devices)
    totals = "".join(f"<td>{_total(passport['forward'][d])}</td>" for d in devices)
    body = [f"<tr><td colspan=2>all</td>{totals}</tr>"]
    for op, dtype in rows:
        cells = "".join(_cell(passport["forward"][d].get(op, {}).get(dtype)) for d in devices)
        body.append(f"<tr><td>{html.escape(op)}</td><td>{dtype}</td>{cells}</tr>")
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>dlk parity passport</title>"
        "<style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}td,th{padding:"
        ".2em .8em;text-align:left;border-bottom:1px solid #ddd}th{position:sticky;top:0;"
        "background:#fff}.failed{background:#fbb}.unsupported{color:#767676}</style>"
        f"<h1>dlk {html.escape(passport['dlk'])} parity passport</h1><p>{passport['date']}. Worst "
        "error over the cases of each operator against NumPy in float64: max|a-b|/max|b|, and "
        "units in the last place. Integers, bools (dtype \u201cnone\u201d) and moved data must be "
        "equal. The dtype \u201cgradient\u201d: float32 gradients against finite differences.</p>"
        f"<table><tr><th>operator</th><th>dtype</th>{head}</tr>{''.join(body)}"
        "</table>\n"
    )


def _details(cell: dict[str, Any]) -> str:
    lines = "".join(
        f"<li>{html.escape(p['case'])}: {html.escape(p['reason'])}" for p in cell["problems"][:20]
    )
    return f"<details><summary>why</summary><ul>{lines}</ul></details>"


def _total(table: dict[str, dict[str, Any]]) -> str:
    cells = [cell for dtypes in table.values() for cell in dtypes.values()]
    text = f"{len(table)} operators, {sum(c['cases'] for c in cells)} cases"
    for what in ("failed", "unsupported"):
        count = sum(c[what] for c in cells)
        text += f", {count} {what}" if count else ""
    return text


def _cell(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "<td class=unsupported>no case</td>"
    if cell["failed"]:
        return f"<td class=failed>{cell['failed']} of {cell['cases']} failed{_details(cell)}</td>"
    if cell["unsupported"] == cell["cases"]:
        return f"<td class=unsupported>unsupported{_details(cell)}</td>"
    if cell["relative"] == 0.0:
        return f"<td>equal in {cell['cases']}</td>"
    return f"<td>{cell['relative']:.1e} ({cell['ulp']:.1f} ulp) in {cell['cases']}</td>"


def main() -> None:
    """`passport.py PATH MORE...`: adds the devices of the other passports to PATH."""
    import sys

    paths = [Path(name) for name in sys.argv[1:]]
    write(merge([json.loads(path.read_text(encoding="utf-8")) for path in paths]), paths[0])


if __name__ == "__main__":
    main()
