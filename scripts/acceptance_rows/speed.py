"""The rows of issue 5: speed, against peers in the same run.

GPU and CPU figures are read from the newest committed results under ``benchmarks/results/``:
``*-h200-speed-batch1.json``, ``*-h200-speed-batch64.json`` and ``*-cpu.json`` from
``benchmarks/networks.py``, ``*-h200-tiles.json`` from ``benchmarks/conv_tiles.py``,
``*-h200-start.json`` from ``benchmarks/start.py``, ``*-h200-engines.json`` from
``benchmarks/engines.py``,
``*-h200-ops.json`` and ``*-cpu-ops.json`` with ``rows`` of what
``dlk bench op:... --against torch --json`` prints, each with its ``target`` and, where it was
set, ``DLK_MATRIX_UNITS``. dlk's and PyTorch's times are medians of rounds in turn.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"

Row = tuple[Any, Any, bool]

BATCH1_MS = {
    "nin_imagenet": 0.233,
    "squeezenet1_1": 0.305,
    "mobilenet_v2": 0.462,
    "resnet50": 0.890,
    "inception_v3": 1.68,
    "vgg16": 0.431,
}
BATCH64_MS = {
    "nin_imagenet": 1.16,
    "squeezenet1_1": 1.60,
    "mobilenet_v2": 2.39,
    "resnet50": 4.21,
    "inception_v3": 9.14,
    "vgg16": 7.52,
}
"""The faster of PyTorch's fp16 and TF32 CUDA graphs, milliseconds (pipelined)."""
OPS = (
    ("op:gemm:4096", "float16", "", 1 / 0.8),
    ("op:gemm:4096", "float16", "mma", 1 / 0.5),
    ("op:gemm:4096", "float16", "coopmat", 1 / 0.36),
    ("op:gemm:4096", "float32", "", 1 / 0.95),
    ("op:gemm:4096", "int8", "", 1 / (0.8 * 1.3)),
    ("op:lstm:32,20,64,200", "float32", "", 0.5),
)
"""Target, dtype, DLK_MATRIX_UNITS ("mma" leaves wgmma out, "coopmat" PTX under Vulkan), and the
most of PyTorch's time (int8: of its float16 time)."""
UNITS = {"mma": "mma.sync", "coopmat": "cooperative matrices"}
CPU_NETWORKS = (
    "efficientnet_lite0",
    "mobilenet_v2",
    "squeezenet1_1",
    "light:shufflenet",
    "resnet50",
    "light:inception_v1",
)


def newest(what: str) -> Any:
    """The newest committed result of a kind."""
    files = sorted(RESULTS.glob(f"*-{what}.json"))
    if not files:
        raise FileNotFoundError(f"no committed result benchmarks/results/*-{what}.json")
    return json.loads(files[-1].read_text())


def at_most(value: float, limit: float) -> Row:
    return round(value, 4), f"<= {limit:.4g}", value <= limit


def network_ms(what: str, network: str, engine: str, dtype: str, key: str) -> float:
    for row in newest(what)["rows"]:
        if (row["network"], row["engine"], row["dtype"]) == (network, engine, dtype):
            if "error" in row:
                raise ValueError(row["error"])
            return float(row[key])
    raise LookupError(f"{what}: no row for {network}, {engine}, {dtype}")


def batch1(network: str, api: str) -> Row:
    share = 0.75 if api == "opencl" else 1.0 if network == "vgg16" else 0.5
    value = network_ms("h200-speed-batch1", network, f"dlk {api}", "float16", "pipelined_ms")
    return at_most(value, share * BATCH1_MS[network])


def batch64(network: str, which: int) -> Row:
    times = sorted(
        network_ms("h200-speed-batch64", network, f"dlk {api}", "float16", "pipelined_ms")
        for api in ("opencl", "vulkan")
    )
    return at_most(times[which], (1.0, 1.3)[which] * BATCH64_MS[network])


def batch64_fp32(network: str, api: str) -> Row:
    """dlk's time over cuDNN's in float32, without TF32, in the same run."""
    what = "h200-speed-batch64-fp32"
    if sorted(RESULTS.glob(f"*-{what}-{network}.json")):  # measured again, alone
        what += f"-{network}"
    mine = network_ms(what, network, f"dlk {api}", "float32", "pipelined_ms")
    return at_most(mine / network_ms(what, network, "torch-fp32", "fp32", "pipelined_ms"), 1.0)


def cpu(network: str) -> Row:
    mine = network_ms("cpu", network, "dlk opencl", "float32", "median_ms")
    peer = network_ms("cpu", network, "onnxruntime", "float32", "median_ms")
    return at_most(mine / peer, 1.3)


def op_ratio(what: str, target: str, dtype: str, device: str, limit: float, units: str = "") -> Row:
    """dlk's time over PyTorch's in the same run."""
    wanted = (target, dtype, device, units)
    for row in newest(what)["rows"]:
        found = (row["target"], row["dtype"], row["device"], row.get("DLK_MATRIX_UNITS", ""))
        if found == wanted:
            return at_most(row["pipelined_ms"] / row["torch"]["pipelined_ms"], limit)
    raise LookupError(f"{what}: no row for {' '.join(wanted)}")


def first_answer(device: str, cache: str, limit_ms: float, key: str = "first_answer_ms") -> Row:
    times = [
        row[key]
        for row in newest("h200-start")["rows"]
        if (row["device"], row["cache"]) == (device, cache) and "error" not in row
    ]
    if not times:
        raise LookupError(f"no start from {cache} was measured on {device}")
    return at_most(statistics.median(times), limit_ms)


def fastest_by_a_fifth(family: str) -> Row:
    """On how many of the twelve shapes a family of algorithms beats all others by 1.2 times."""
    best: dict[tuple[str, str, str], dict[bool, float]] = {}
    for row in newest("h200-tiles")["rows"]:
        if "us" in row and row["algorithm"]:
            dtype = row.get("dtype", "float16")
            times = best.setdefault((row["device"], row["shape"], dtype), {})
            mine = row["algorithm"].startswith(family)
            times[mine] = min(times.get(mine, float("inf")), row["us"])
    wins = [
        f"{shape} {dtype} on {device}"
        for (device, shape, dtype), times in best.items()
        if len(times) == 2 and times[False] >= 1.2 * times[True]
    ]
    return wins or "none", ">= 1 shape", bool(wins)


def peer_ratio(engine: str) -> Row:
    """The least ratio of another engine's best median_ms to dlk's, over the networks it runs."""
    best: dict[tuple[str, bool], float] = {}
    for row in newest("h200-engines")["rows"]:
        mine = row["engine"].startswith("dlk ")
        if "error" not in row and (mine or row["engine"] == engine):
            key = (row["network"], mine)
            best[key] = min(best.get(key, float("inf")), row["median_ms"])
    ratios = [
        ms / best[network, True]
        for (network, mine), ms in best.items()
        if not mine and (network, True) in best
    ]
    if not ratios:
        raise LookupError(f"h200-engines: {engine} ran no network that dlk ran")
    least = min(ratios)
    return round(least, 2), ">= 10", least >= 10


def choice(device: str) -> Row:
    """The worst ratio of the default's time to the best variant's, over the twelve shapes in each
    dtype that was measured."""
    shapes: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in newest("h200-tiles")["rows"]:
        if row["device"].startswith(device) and row["shape"].startswith("twelve") and "us" in row:
            shapes.setdefault((row["shape"], row.get("dtype", "float16")), []).append(row)

    def program(row: dict[str, Any]) -> list[Any]:
        return [step[:2] for step in row["steps"]]  # kernels and groups

    ratios = []
    for rows in shapes.values():
        default = next(row for row in rows if not row["algorithm"])
        # A variant that is the same program was timed once more.
        mine = min(row["us"] for row in rows if program(row) == program(default))
        ratios.append(mine / min(row["us"] for row in rows))
    if len(ratios) < 12:
        raise LookupError(f"only {len(ratios)} of the twelve shapes were measured on {device}")
    return at_most(max(ratios), 1.1)


def algorithms_agree(device_id: str) -> Row:
    """The worst relative error of every algorithm on shapes that it claims, measured now."""
    from dlk import _core

    rng = np.random.default_rng(1)
    worst = 0.0
    device = _core.open_device(device_id)
    before = os.environ.pop("DLK_CONV_ALGO", None)
    for n, c, h, w, k in ((1, 16, 9, 13, 24), (2, 20, 14, 14, 36), (1, 3, 12, 7, 5)):
        graph = _core.Graph()
        x = rng.standard_normal((n, c, h, w)).astype(np.float32)
        kernel = rng.standard_normal((k, c, 3, 3)).astype(np.float32)
        y = graph.add_node(
            "Conv",
            [graph.add_input("x", "float32", [n, c, h, w]), graph.add_constant("w", kernel)],
            {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
        )[0]
        graph.add_output(y, "y")
        padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
        want = sum(
            np.einsum("nchw,kc->nkhw", padded[:, :, i : i + h, j : j + w], kernel[:, :, i, j])
            for i in range(3)
            for j in range(3)
        )
        for algorithm in ("direct", "block", "gemm", "winograd2", "winograd4", "fft"):
            os.environ["DLK_CONV_ALGO"] = algorithm
            got = _core.Model(graph, device).create_session().run({"x": x})["y"]
            worst = max(worst, float(np.abs(got - want).max() / np.abs(want).max()))
    os.environ.pop("DLK_CONV_ALGO", None)
    if before is not None:
        os.environ["DLK_CONV_ALGO"] = before
    return worst, "<= 2e-5", worst <= 2e-5


def rows() -> Iterator[tuple[str, Callable[[], Row]]]:
    """Every row: its name and what measures it."""
    for network in BATCH1_MS:
        for api in ("vulkan", "opencl"):
            yield (
                f"H200 {api}: {network} batch 1 fp16, pipelined ms (committed)",
                lambda n=network, a=api: batch1(n, a),
            )
    for network in BATCH64_MS:
        for which, name in enumerate(("better", "other")):
            yield (
                f"H200 {name} API: {network} batch 64 fp16, pipelined ms (committed)",
                lambda n=network, w=which: batch64(n, w),
            )
    for network in BATCH64_MS:
        for api in ("vulkan", "opencl"):
            yield (
                f"H200 {api}: {network} batch 64 fp32, time / cuDNN's (committed)",
                lambda n=network, a=api: batch64_fp32(n, a),
            )
    for target, dtype, units, limit in OPS:
        for device in ("vulkan:0",) if units == "coopmat" else ("opencl:0", "vulkan:0"):
            by = f" by {UNITS[units]}" if units else ""
            yield (
                f"H200 {device}: {target} {dtype}{by}, time / PyTorch's (committed)",
                lambda t=target, k=dtype, d=device, m=limit, u=units: op_ratio(
                    "h200-ops", t, k, d, m, u
                ),
            )
    for device in ("vulkan", "opencl"):
        for cache, limit_ms in (("empty", 1000.0), ("warm", 150.0), ("bundle", 100.0)):
            yield (
                f"H200 {device}: ResNet-50's first answer, cache {cache}, ms (committed)",
                lambda d=device, c=cache, m=limit_ms: first_answer(d, c, m),
            )
            yield (
                f"H200 {device}: the same from an open device on, ms (committed)",
                lambda d=device, c=cache, m=limit_ms: first_answer(d, c, m, "after_device_ms"),
            )
    for family in ("winograd", "fft"):
        yield (
            f"H200: shapes on which {family} is the fastest by 1.2 times (committed)",
            lambda f=family: fastest_by_a_fifth(f),
        )
    for engine in ("ncnn", "ort-webgpu"):
        yield (
            f"H200: least ratio of {engine}'s batch 1 to dlk's (committed)",
            lambda e=engine: peer_ratio(e),
        )
    for device in ("opencl", "vulkan"):
        yield (
            f"H200 {device}: twelve shapes, default / best (committed)",
            lambda d=device: choice(d),
        )
    for network in CPU_NETWORKS:
        yield (
            f"2 CPU cores, PoCL: {network}, time / onnxruntime's (committed)",
            lambda n=network: cpu(n),
        )
    yield (
        "2 CPU cores, PoCL: SGEMM 1024, time / OpenBLAS's (committed)",
        lambda: op_ratio("cpu-ops", "op:gemm:1024", "float32", "opencl:0", 1 / 0.9),
    )
    for device_id in ("opencl:0", "vulkan:0"):
        yield (
            f"{device_id}: worst error of the convolution algorithms",
            lambda d=device_id: algorithms_agree(d),
        )
