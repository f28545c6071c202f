"""Draws results: bars of networks and engines, and rooflines. Needs matplotlib.

    python benchmarks/plot.py benchmarks/results/2026-11-21-cpu.json --output cpu.svg
    python benchmarks/plot.py engines.json --key median_ms --output engines.png
    dlk bench resnet50 --weights random --roofline --output roof.json && \\
        python benchmarks/plot.py roof.json --output roof.svg

A file with `rows` of networks (benchmarks/networks.py, benchmarks/engines.py) becomes bars, a
group for each network and a colour for each engine; rows with an error are left out. A file with
`roofline` (`dlk bench --roofline`) becomes a dot for each operation under the device's roof. The
output's name ends with .png, .svg or .pdf.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def bars(result: dict[str, Any], key: str) -> dict[str, dict[str, float]]:
    """Engine and dtype: network: the figure `key`; engines and networks in the file's order.

    Raises:
        ValueError: no row has such a figure.
    """
    series: dict[str, dict[str, float]] = {}
    for row in result["rows"]:
        if "error" not in row and key in row:
            name = row["engine"]
            if str(row["dtype"]) not in name:
                name += f" {row['dtype']}"
            series.setdefault(name, {})[row["network"]] = float(row[key])
    if not series:
        raise ValueError(f"no row has {key}")
    return series


def points(found: dict[str, Any]) -> list[tuple[float, float, float]]:
    """Operations per byte, GFLOP/s and share of the time of each operation that computes."""
    total = sum(row["ms"] for row in found["steps"]) or 1.0
    return [
        (row["flops"] / row["bytes"], row["gflops"], row["ms"] / total)
        for row in found["steps"]
        if row["flops"] > 0 and row["bytes"] > 0
    ]


def draw_bars(axes: Any, result: dict[str, Any], key: str) -> None:
    series = bars(result, key)
    networks = list(dict.fromkeys(name for values in series.values() for name in values))
    width = 0.8 / len(series)
    for i, (engine, values) in enumerate(series.items()):
        places = [networks.index(name) + (i + 0.5) * width - 0.4 for name in values]
        axes.bar(places, list(values.values()), width, label=engine)
    axes.set_xticks(range(len(networks)), networks, rotation=20, ha="right")
    axes.set_yscale("log")
    axes.set_ylabel(f"{key.removesuffix('_ms')}, ms")
    machine = result.get("machine", {})
    axes.set_title(f"{machine.get('gpu') or 'CPU'}, {machine.get('date', '')}")
    axes.legend(fontsize="small")


def draw_roofline(axes: Any, result: dict[str, Any]) -> None:
    found = result["roofline"]
    most = {name: value / 1e9 for name, value in found["peaks"].items()}
    dots = points(found)
    low = min([0.1, *(x for x, _, _ in dots)])
    high = max([1000.0, *(x for x, _, _ in dots)])
    for name in ("fp32", "fp16", "matrix"):
        peak = most[f"{name}_flops"]
        if peak:
            knee = peak / most["copy_bytes"]
            xs = sorted({low, min(max(knee, low), high), high})
            axes.plot(xs, [min(x * most["copy_bytes"], peak) for x in xs], label=f"{name} roof")
    axes.scatter(
        [x for x, _, _ in dots], [y for _, y, _ in dots], [20 + 400 * share for *_, share in dots],
        alpha=0.5, label="operations, area by time",
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations per byte")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(f"{result['target']}, {result['dtype']}, {result['device']}")
    axes.legend(fontsize="small")


def main() -> int:
    form = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("result", type=Path)
    parser.add_argument("--key", default="median_ms", help="median_ms, device_ms, pipelined_ms")
    parser.add_argument("--output", type=Path, required=True)
    chosen = parser.parse_args()
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("charts need matplotlib: pip install matplotlib", file=sys.stderr)
        return 1
    result = json.loads(chosen.result.read_text())
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    if "roofline" in result:
        draw_roofline(axes, result)
    else:
        draw_bars(axes, result, chosen.key)
    figure.savefig(chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
