"""Every way to compute a convolution, on one device in one run: which is right, which is fast.

    python benchmarks/conv_tiles.py --set twelve --dtypes float32,float16 --output tiles.json

Each shape is a graph of one convolution with bias and ReLU. A variant is a value of
``DLK_CONV_ALGO`` (an algorithm, or a tile of the matrix units with its slices, or as a stream with
so many groups a compute unit); its result is compared with NumPy's float32 product of the same
operands, and its time is the device's own: the sum over the commands of a run, and 2 us between
them on a GPU, median of many runs in turn with the other variants'.
``--gemm N`` adds square products. JSON holds all rows, each with its dtype; the table shows the
default choice beside the best, and beside both the best stream where that is neither; ``--records``
writes what beats the default as lines for ``tuning.tsv`` or ``core/ops/conv_records.cpp``. With
``DLK_TUNING=/dev/null`` the default is the cost model's, without the records that ship with dlk.

The algorithms, the cost model's choice and its own tiles alone, a few for each shape:

    python benchmarks/conv_tiles.py --set twelve --dtypes float32,float16 --few --seconds 0.02

Whether stream-K pays, where the cost model sees a chance for it, beside everything else; and on
more shapes beside the default:

    python benchmarks/conv_tiles.py --set streams --output streams.json
    python benchmarks/conv_tiles.py --set resnet50,batch8 --only stream --output more-streams.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from dlk import _core
from dlk.tune import (
    FLOAT_TILES,
    GAIN,
    MODEL_TILES,
    TILES,
    TOLERANCE,
    Problem,
    algorithms,
    streams_of,
    tile_family,
)
from machine import machine

# name: batch, channels in, height and width, channels out, window, stride, padding
SETS = {
    "resnet50": {
        "first": (1, 3, 224, 64, 7, 2, 3),
        "56 64-64 1x1": (1, 64, 56, 64, 1, 1, 0),
        "56 64-64 3x3": (1, 64, 56, 64, 3, 1, 1),
        "56 64-256 1x1": (1, 64, 56, 256, 1, 1, 0),
        "56 256-64 1x1": (1, 256, 56, 64, 1, 1, 0),
        "28 128-128 3x3": (1, 128, 28, 128, 3, 1, 1),
        "28 512-128 1x1": (1, 512, 28, 128, 1, 1, 0),
        "28 128-512 1x1": (1, 128, 28, 512, 1, 1, 0),
        "14 256-256 3x3": (1, 256, 14, 256, 3, 1, 1),
        "14 1024-256 1x1": (1, 1024, 14, 256, 1, 1, 0),
        "14 256-1024 1x1": (1, 256, 14, 1024, 1, 1, 0),
        "7 512-512 3x3": (1, 512, 7, 512, 3, 1, 1),
        "7 2048-512 1x1": (1, 2048, 7, 512, 1, 1, 0),
        "7 512-2048 1x1": (1, 512, 7, 2048, 1, 1, 0),
        "classifier": (1, 2048, 1, 1000, 1, 1, 0),
    },
    "batch64": {
        "56 64-64 3x3": (64, 64, 56, 64, 3, 1, 1),
        "28 512-128 1x1": (64, 512, 28, 128, 1, 1, 0),
        "14 256-256 3x3": (64, 256, 14, 256, 3, 1, 1),
        "7 512-2048 1x1": (64, 512, 7, 2048, 1, 1, 0),
    },
    "batch8": {
        "56 64-64 3x3": (8, 64, 56, 64, 3, 1, 1),
        "56 256-64 1x1": (8, 256, 56, 64, 1, 1, 0),
        "28 128-128 3x3": (8, 128, 28, 128, 3, 1, 1),
        "28 512-128 1x1": (8, 512, 28, 128, 1, 1, 0),
        "28 128-512 1x1": (8, 128, 28, 512, 1, 1, 0),
        "14 256-256 3x3": (8, 256, 14, 256, 3, 1, 1),
        "14 1024-256 1x1": (8, 1024, 14, 256, 1, 1, 0),
        "7 512-512 3x3": (8, 512, 7, 512, 3, 1, 1),
        "7 2048-512 1x1": (8, 2048, 7, 512, 1, 1, 0),
        "7 512-2048 1x1": (8, 512, 7, 2048, 1, 1, 0),
        "vgg 28 512-512 3x3": (8, 512, 28, 512, 3, 1, 1),
    },
    "streams": {
        "vgg 28 512-512 3x3, 1": (1, 512, 28, 512, 3, 1, 1),
        "vgg 28 512-512 3x3, 8": (8, 512, 28, 512, 3, 1, 1),
        "7 512-512 3x3, 8": (8, 512, 7, 512, 3, 1, 1),
        "14 256-256 3x3, 64": (64, 256, 14, 256, 3, 1, 1),
        "7x7, 1": (1, 64, 64, 64, 7, 1, 3),
    },
    "batch64-fp32": {
        "vgg 224 64-64 3x3": (64, 64, 224, 64, 3, 1, 1),
        "vgg 56 256-256 3x3": (64, 256, 56, 256, 3, 1, 1),
        "vgg 14 512-512 3x3": (64, 512, 14, 512, 3, 1, 1),
        "nin 27 96-256 5x5": (64, 96, 27, 256, 5, 1, 2),
        "nin 55 96-96 1x1": (64, 96, 55, 96, 1, 1, 0),
        "resnet 56 64-256 1x1": (64, 64, 56, 256, 1, 1, 0),
        "resnet 28 128-128 3x3": (64, 128, 28, 128, 3, 1, 1),
        "resnet 14 1024-256 1x1": (64, 1024, 14, 256, 1, 1, 0),
        "resnet 7 512-512 3x3": (64, 512, 7, 512, 3, 1, 1),
        "inception 35 64-96 3x3": (64, 64, 35, 96, 3, 1, 1),
    },
    "twelve": {
        "resnet 56 3x3": (1, 64, 56, 64, 3, 1, 1),
        "resnet 14 3x3": (1, 256, 14, 256, 3, 1, 1),
        "vgg 224 3x3": (1, 64, 224, 64, 3, 1, 1),
        "vgg 28 3x3": (1, 512, 28, 512, 3, 1, 1),
        "squeezenet 55 1x1": (1, 64, 55, 16, 1, 1, 0),
        "mobilenet 14 1x1": (1, 96, 14, 576, 1, 1, 0),
        "inception 35 5x5": (1, 48, 35, 64, 5, 1, 2),
        "nin 55 1x1": (1, 96, 55, 96, 1, 1, 0),
        "5x5": (1, 64, 64, 64, 5, 1, 2),
        "7x7": (1, 64, 64, 64, 7, 1, 3),
        "11x11": (1, 32, 64, 32, 11, 1, 5),
        "31x31": (1, 16, 64, 16, 31, 1, 15),
    },
}  # fmt: skip

GAP_US = 2.0
"""Between two commands of a run, one of which needs the other's result: launch and barrier on an
H200, recorded by Vulkan; OpenCL's queue takes no less."""
LEAST_SHARE_OF_UNITS = 8
"""One in so many compute units has a tile, in the variants of ``--few``."""


def problem_of(shape: tuple[int, ...], dtype: str) -> Problem:
    n, c, h, k, window, stride, pad = shape
    return Problem(n, c, h, h, k, (window, window), (stride, stride), (pad, pad), 1, dtype)


def gemm_graph(size: int, seed: int, dtype: str) -> tuple[Any, Any, Any]:
    """A product with a constant right side."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((size, size)).astype(dtype)
    b = (rng.standard_normal((size, size)) / np.sqrt(size)).astype(dtype)
    graph = _core.Graph()
    left = graph.add_input("x", dtype, [size, size])
    graph.add_output(graph.add_node("MatMul", [left, graph.add_constant("b", b)])[0], "y")
    rows = a[:16].astype(np.float32) @ b.astype(np.float32)
    return graph, {"x": a}, rows


def prepared(
    case: tuple[Any, Any, Any], device: Any, algorithm: str, dtype: str
) -> tuple[dict[str, Any], Any]:
    """A variant's row so far, and its session once its result is right."""
    graph, feed, want = case
    os.environ["DLK_CONV_ALGO"] = algorithm
    row: dict[str, Any] = {"algorithm": algorithm}
    try:
        session = _core.Model(graph, device, dtype=dtype).create_session()
        got = session.run(feed)["y"].astype(np.float32)[: len(want)]
        error = float(np.linalg.norm(got - want) / max(float(np.linalg.norm(want)), 1e-30))
        if error < TOLERANCE[dtype]:
            return row | {"relative_error": error}, session
        return row | {"error": f"wrong: relative error {error:.1e}"}, None
    except Exception as error:
        return row | {"error": f"{type(error).__name__}: {error}"[:300]}, None


def time_in_turn(
    prepared_rows: list[tuple[dict[str, Any], Any]],
    feed: dict[str, Any],
    seconds: float,
    gap_us: float,
) -> None:
    """Adds each row's `us` and `steps`: medians over three rounds, so that clocks that rise or fall
    meanwhile favour none."""
    times: dict[int, list[float]] = {i: [] for i, pair in enumerate(prepared_rows) if pair[1]}
    for _ in range(3):
        for i, totals in times.items():
            row, session = prepared_rows[i]
            start, count = time.perf_counter(), 0
            while count < 4 or (time.perf_counter() - start < seconds / 3 and count < 15):
                steps = session.profile(feed)
                totals.append(sum(ns for _, ns in steps) / 1e3 + gap_us * (len(steps) - 1))
                count += 1
            row["us"] = statistics.median(totals)
            row["steps"] = [[s.kernel, list(s.groups), round(ns / 1e3, 2)] for s, ns in steps]


def variants(device: Any, shape: tuple[int, ...] | None, dtype: str, size: int) -> list[str]:
    """Algorithms for a shape; for a square product the tiles alone, whole or as streams."""
    caps = device.caps
    if shape is not None:
        units = caps["compute_units"]
        return algorithms(problem_of(shape, dtype), tile_family(caps), caps["is_cpu"], units)
    family = tile_family(caps)
    floats = FLOAT_TILES if family in ("opencl", "import") else ()
    tiles = TILES.get(family, ()) if dtype == "float16" else floats
    result = ["", "gemm"]
    for tile in tiles:
        rows, columns = (int(side) for side in tile.split(",")[:2])
        count = -(-size // rows) * -(-size // columns)
        result += [f"mma:{tile}:1", *streams_of(tile, count, size, caps["compute_units"])]
    return result


def few(device: Any, shape: tuple[int, ...] | None, dtype: str, names: list[str]) -> list[str]:
    """Of a shape's variants the algorithms, and of tiles the cost model's own: its choice among
    them ("mma"), and each that gives a share of the compute units something to do, whole."""
    result = [name for name in names if not name.startswith("mma:")]
    family, units = tile_family(device.caps), device.caps["compute_units"]
    own = MODEL_TILES.get(dtype, ()) if family in ("opencl", "import") else TILES.get(family, ())
    if shape is not None:
        problem = problem_of(shape, dtype)
        pixels = problem.batch * problem.output[0] * problem.output[1]
    kept = []
    for tile in own:
        rows, columns = (int(side) for side in tile.split(",")[:2])
        if shape is not None:
            too_few = (
                -(-pixels // rows) * -(-problem.filters // columns) * LEAST_SHARE_OF_UNITS < units
            )
            if too_few or columns >= 2 * max(problem.filters, 64):
                continue
        kept.append(f"mma:{tile}:1")
    return [*result, "mma", *kept] if own and not device.caps["is_cpu"] else result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--devices", default="opencl,vulkan")
    parser.add_argument("--set", default="resnet50", help=", ".join(SETS))
    parser.add_argument("--dtypes", default="float16", help="float16, float32, or both")
    parser.add_argument("--gemm", type=int, nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=0.05, help="for each variant")
    parser.add_argument("--budget", type=float, default=200, help="seconds in all")
    parser.add_argument("--only-default", action="store_true")
    parser.add_argument(
        "--few", action="store_true", help="algorithms and the cost model's own tiles, undivided"
    )
    parser.add_argument("--only", default="", help="variants with this in their names, say stream")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--records", type=Path, help="a file to add lines to")
    chosen = parser.parse_args()
    begin = time.perf_counter()
    rows: list[dict[str, Any]] = []
    cases = [
        (f"{name}: {label}", shape, dtype)
        for dtype in chosen.dtypes.split(",")
        for name in chosen.set.split(",") if name
        for label, shape in SETS[name].items()
    ]  # fmt: skip
    cases += [
        (f"gemm {size}", None, dtype) for dtype in chosen.dtypes.split(",") for size in chosen.gemm
    ]
    devices = {name: _core.open_device(name) for name in chosen.devices.split(",")}
    where = machine()
    for label, shape, dtype in cases:
        size = 0 if shape else int(label.split()[1])
        case = problem_of(shape, dtype).graph() if shape else gemm_graph(size, 1, dtype)
        for name, device in devices.items():
            todo = [""] if chosen.only_default else variants(device, shape, dtype, size)
            if chosen.few:
                todo = few(device, shape, dtype, todo)
            todo = [how for how in todo if not how or chosen.only in how]
            pairs = []
            for algorithm in todo:
                if time.perf_counter() - begin > chosen.budget:
                    break
                pairs.append(prepared(case, device, algorithm, dtype))
            gap_us = 0.0 if device.caps["is_cpu"] else GAP_US
            time_in_turn(pairs, case[1], chosen.seconds, gap_us)
            found = [{"shape": label, "dtype": dtype, "device": name, **row} for row, _ in pairs]
            rows += found
            report(f"{label} {dtype}", name, found)
            if chosen.records and shape:
                add_record(chosen.records, device, problem_of(shape, dtype), found)
            if chosen.output:
                chosen.output.write_text(json.dumps({"machine": where, "rows": rows}) + "\n")
    return 1 if any(str(row.get("error", "")).startswith("wrong") for row in rows) else 0


def add_record(path: Path, device: Any, problem: Problem, rows: list[dict[str, Any]]) -> None:
    """What is at least 3 % faster than the default."""
    times = {row["algorithm"]: row["us"] for row in rows if "us" in row}
    best = min(times, key=lambda name: times[name], default="")
    if best and times[best] <= GAIN * times.get("", float("inf")):
        with path.open("a") as file:
            file.write(f"{device.caps['backend']} {device.caps['name']}\t{problem.key}\t{best}\n")


def report(label: str, device: str, rows: list[dict[str, Any]]) -> None:
    good = sorted((row for row in rows if "us" in row), key=lambda row: float(row["us"]))
    if not good:
        print(f"{label} on {device}: nothing ran: {[row.get('error') for row in rows][:3]}")
        return
    text = ", ".join(f"{row['algorithm'] or 'default'} {row['us']:.1f}" for row in good[:4])
    chosen = next((row for row in good if row["algorithm"] == ""), None)
    beside = f"; default {chosen['us']:.1f} {chosen['steps'][0]}" if chosen else ""
    bad = [f"{row['algorithm']}: {row['error']}" for row in rows if "error" in row]
    stream = next((row for row in good[4:] if "stream" in row["algorithm"]), None)
    if stream and not any("stream" in row["algorithm"] for row in good[:4]):
        beside += f"; {stream['algorithm']} {stream['us']:.1f}"
    print(f"{label} on {device}: {text} us{beside}", flush=True)
    for problem in bad[:3]:
        print("   ", problem, flush=True)


if __name__ == "__main__":
    sys.exit(main())
