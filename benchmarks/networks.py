"""Whole networks against peers, in one run on one machine.

    python benchmarks/networks.py --devices opencl,vulkan --networks resnet50 --peers onnxruntime
    python benchmarks/networks.py --devices vulkan --dtype float16 --batch 64 --peers torch

``light:NAME`` is a network of the onnx package (light:shufflenet, light:inception_v1), with its
constant weights. Otherwise weights are random, as inputs always are; every output is compared with
the first peer's (or the first device's) in the same run, and a result that is wrong is reported as
an error, not as a time. pipelined_ms of PyTorch's CUDA graphs and of dlk are of rounds in turn
(`dlk.bench.in_turn`): engines that are timed one after the other meet different clocks.
Writes JSON and a Markdown table; results that are kept stand in ``benchmarks/results/``.
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

import dlk
import peers
from dlk.bench import QUEUED, in_turn, measure, queued_runs
from machine import machine

TOLERANCE = {"float32": 1e-3, "float16": 3e-2}
"""On ||a-b|| / ||b||, for random weights; parity proper is the parity suite's business."""


def relative_error(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-30))


def median_ms(action: Any, seconds: float = 3.0, least: int = 5) -> float:
    for _ in range(2):
        action()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < least or (time.perf_counter() - start < seconds and len(times) < 200):
        before = time.perf_counter()
        action()
        times.append((time.perf_counter() - before) * 1e3)
    return statistics.median(times)


def cpu_ms(action: Any, runs: int = 5) -> float:
    """Processor time of a run, all threads: what a busy machine does not stretch."""
    start = time.process_time()
    for _ in range(runs):
        action()
    return (time.process_time() - start) * 1e3 / runs


def light_network(name: str) -> tuple[Any, bytes]:
    """A network of the onnx package (constant weights), as a graph and as its file."""
    import onnx
    from dlk.importers.onnx import load_graph

    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    path = folder / f"light_{name}.onnx"
    return load_graph(path), path.read_bytes()


def run_network(name: str, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    file = None
    if name.startswith("light:"):
        graph, file = light_network(name.removeprefix("light:"))
    else:
        graph = dlk.zoo.build(name, weights="random")
    size = graph.inputs[0].shape[1:]
    batch = np.random.default_rng(1).standard_normal((chosen.batch, *size)).astype(np.float32)
    rows, reference = [], None
    graphs: dict[str, Any] = {}  # PyTorch's, by engine, which stay for the rounds
    for peer in chosen.peers:
        row: dict[str, Any] = {"network": name, "engine": peer, "batch": chosen.batch}
        try:
            result = run_peer(row, name, graph, file, batch, chosen.threads, graphs)
            if reference is None:
                reference = result
        except (RuntimeError, ValueError, ImportError, AttributeError) as error:
            row["error"] = f"{type(error).__name__}: {error}"[:500]  # the others still run
        rows.append(row)
    together: dict[str, list[float]] = {engine: [] for engine in graphs}
    for device in chosen.devices:
        for dtype in chosen.dtype:
            row = run_dlk(graph, batch, device, dtype, reference, chosen.seconds, graphs)
            for engine, ms in row.get("peers_ms", {}).items():
                together[engine].append(ms)
            rows.append({"network": name, **row})
    for row in rows:
        if row["engine"] in graphs:
            alone = [graphs[row["engine"]].queued]
            ms = together[row["engine"]] or [in_turn(alone)[0] / QUEUED]
            row["pipelined_ms"] = statistics.median(ms)
        print(json.dumps(row), flush=True)
    return rows


def run_peer(
    row: dict[str, Any],
    name: str,
    graph: Any,
    file: bytes | None,
    batch: Any,
    threads: int,
    graphs: dict[str, Any],
) -> Any:
    """Fills in a peer's row and returns its result; CUDA graphs are added to `graphs`."""
    if row["engine"] == "onnxruntime":
        run = peers.onnxruntime_cpu(file or peers.to_onnx(graph), batch, threads)
        row.update(dtype="float32", median_ms=median_ms(run), cpu_ms=cpu_ms(run))
        return run()
    row["dtype"] = row["engine"].removeprefix("torch-")
    torch = peers.TorchGpu(name, graph, batch, row["dtype"])
    result = torch.result()
    row["median_ms"] = torch.median_ms()
    graphs[row["engine"]] = torch
    return result


def run_dlk(
    graph: Any,
    batch: Any,
    device: str,
    dtype: str,
    reference: Any,
    seconds: float,
    graphs: dict[str, Any],
) -> dict[str, Any]:
    """dlk's row; `peers_ms` has each CUDA graph's pipelined_ms from the rounds of this row's."""
    row: dict[str, Any] = {"engine": f"dlk {device}", "batch": len(batch), "dtype": dtype}
    try:
        model = dlk.Model(graph, dlk.Device(device), dtype)
        feeds = {next(iter(model.inputs)): batch}
        result = measure(model, feeds, batch=len(batch), seconds=seconds).to_dict()
        got = next(iter(model.run(feeds).values()))
        row["cpu_ms"] = cpu_ms(lambda: model.run(feeds))
        plan = model.plan(feeds)
        row.update({k: result[k] for k in ("median_ms", "device_ms", "pipelined_ms", "runs")})
        if graphs:
            actions = [queued_runs(model, feeds), *(peer.queued for peer in graphs.values())]
            mine, *others = (ms / QUEUED for ms in in_turn(actions, 2 * seconds))
            row["pipelined_ms"] = mine
            row["peers_ms"] = dict(zip(graphs, others, strict=True))
        row.update(dispatches=plan.dispatches, pipelines=plan.pipelines)
        if reference is not None:
            row["relative_error"] = relative_error(got, reference)
            if not row["relative_error"] <= TOLERANCE[dtype]:
                row["error"] = f"wrong result: relative error {row['relative_error']:.2e}"
    except (RuntimeError, ValueError, NotImplementedError, MemoryError) as error:
        row["error"] = f"{type(error).__name__}: {error}"[:500]
    return row


def markdown(result: dict[str, Any]) -> str:
    columns = ("network", "engine", "dtype", "batch", "median_ms", "device_ms", "pipelined_ms",
               "cpu_ms", "dispatches", "pipelines", "relative_error", "error")  # fmt: skip

    def cell(row: dict[str, Any], key: str) -> str:
        value = row.get(key, "")
        if isinstance(value, float):
            return f"{value:.1e}" if key == "relative_error" else f"{value:.3f}"
        return str(value).replace("|", "/").replace("\n", " ")

    lines = [f"# Networks, {result['machine']['date']}", "",
             f"GPU: {result['machine']['gpu'] or 'none'}; {result['machine']['cpus']} CPUs, "
             f"load average {result['machine']['load'][0]} at the start; "
             + "; ".join(f"{d['id']}: {d['name']} ({d['driver']})"
                         for d in result["machine"]["devices"]),
             "", f"`{result['machine']['command']}`", "",
             "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]  # fmt: skip
    lines += ["| " + " | ".join(cell(row, key) for key in columns) + " |" for row in result["rows"]]
    return "\n".join(lines) + "\n"


def write(result: dict[str, Any], output: Path) -> None:
    """JSON, and the table beside it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    output.with_suffix(".md").write_text(markdown(result))


def main() -> int:
    def words(text: str) -> list[str]:
        return [word for word in text.split(",") if word]

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--networks", type=words, default=["efficientnet_lite0", "mobilenet_v2", "resnet50"]
    )
    parser.add_argument("--devices", type=words, default=["opencl", "vulkan"])
    parser.add_argument("--dtype", type=words, default=["float32"])
    parser.add_argument("--peers", type=words, default=[],
                        help="onnxruntime, torch-fp32, torch-tf32, torch-fp16")  # fmt: skip
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each time of dlk")
    parser.add_argument("--output", type=Path, help="a .json path; the table goes beside it as .md")
    chosen = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "rows": []}
    for name in chosen.networks:
        result["rows"] += run_network(name, chosen)
        if chosen.output:  # kept up to date, so that an interrupted run loses nothing
            write(result, chosen.output)
    print(markdown(result))
    return 1 if any("error" in row for row in result["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
