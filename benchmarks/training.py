#!/usr/bin/env python3
"""Whole training steps against PyTorch on the same device: forward, backward, momentum, statistics.

    python benchmarks/training.py --networks resnet50 --devices vulkan --batch 64 --profile
    python benchmarks/training.py --networks activity --dtypes float32 --batch 32 --runs 50

Medians of steps that are waited for; float16 is PyTorch's automatic mixed precision with a gradient
scaler and channels innermost, and dlk's `dtype="float16"` with its loss scale. dlk's float32 is
float32 all through, so PyTorch's convolutions may not round to TF32 (`torch`); with that, its
default, they are `torch_tf32`. cuDNN looks for its fastest algorithms. A step of the activity
classifier takes PyTorch longer to launch than to compute: there `torch` is the faster of the plain
step (`torch_eager`) and one captured in a CUDA graph (`torch_graph`). --profile adds the time of
each kernel in one step of dlk.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def median_ms(step: Any, runs: int) -> float:
    """Median time of a call, after two to warm up."""
    for _ in range(2):
        step()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        step()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def lenet() -> Any:
    from dlk import nn

    return nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


CLASSES, ACTIVITIES = 1000, 6


def activity() -> Any:
    """(N, 6, 2000) sensor readings, by two convolutions to 20 steps of an LSTM, to logits."""
    from dlk import nn

    class Activity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv1d(6, 32, 10, stride=10)
            self.conv2 = nn.Conv1d(32, 64, 10, stride=10)
            self.lstm = nn.LSTM(64, 200)
            self.last = nn.Conv1d(200, ACTIVITIES, 1)

        def forward(self, *inputs: nn.Value) -> nn.Value:
            x = nn.relu(self.conv2(nn.relu(self.conv1(*inputs))))
            y, _, _ = self.lstm(nn.transpose(x, (2, 0, 1)))
            return nn.arithmetic.reduce_mean(self.last(nn.transpose(y, (1, 2, 0))), 2)

    return Activity()


def torch_activity() -> Any:
    """The same in PyTorch."""
    import torch

    class Activity(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = torch.nn.Conv1d(6, 32, 10, stride=10)
            self.conv2 = torch.nn.Conv1d(32, 64, 10, stride=10)
            self.lstm = torch.nn.LSTM(64, 200)
            self.last = torch.nn.Conv1d(200, ACTIVITIES, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv2(self.conv1(x).relu()).relu()
            y, _ = self.lstm(x.permute(2, 0, 1))
            return self.last(y.permute(1, 2, 0)).mean(2)

    return Activity()


def network(name: str) -> tuple[Any, tuple[int, ...]]:
    """A network of dlk and the shape of a sample."""
    if name == "lenet":
        return lenet(), (1, 28, 28)
    if name == "activity":
        return activity(), (6, 2000)
    from dlk.zoo import inception, nin, resnet

    if name == "nin_imagenet":
        return nin.NINImageNet(), (3, 224, 224)
    if name == "inception_v3":
        return inception.InceptionV3(), (3, 299, 299)
    return getattr(resnet, name)(), (3, 224, 224)


def kernel_times(steps: list[tuple[Any, float]]) -> list[dict[str, Any]]:
    """Milliseconds, commands and GFLOP of each kernel of a profile, the longest first."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for step, ns in steps:
        row = rows.setdefault(
            (step.op, step.kernel),
            {"op": step.op, "kernel": step.kernel, "ms": 0.0, "count": 0, "gflop": 0.0},
        )
        row["ms"] += ns / 1e6
        row["count"] += 1
        row["gflop"] += step.flops / 1e9
    return sorted(rows.values(), key=lambda row: -row["ms"])


def print_profile(steps: list[tuple[Any, float]]) -> None:
    """Kernels, then the longest commands."""
    from dlk.profile import Profile

    for row in kernel_times(steps)[:40]:
        print(
            f"{row['ms']:9.3f} ms {row['count']:5d} x {row['gflop']:9.1f} GFLOP  "
            f"{row['op']:<36} {row['kernel']}"
        )
    print(Profile(steps, "one step").table(60))


def measure_dlk(
    name: str, device: str, dtype: str, batch: int, runs: int, profile: bool = False
) -> float:
    """Milliseconds of a step of dlk."""
    from dlk import Tensor, nn, optim, train

    net, shape = network(name)
    net.initialize(0)
    step = train.TrainStep(
        net, {"x": ("N", *shape)}, {"labels": (("N",), "int32")},
        lambda y, labels: nn.losses.cross_entropy(y, labels),
        optim.SGD(0.01, momentum=0.9), device=device, dtype=dtype,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    # In device memory, as PyTorch's.
    x = Tensor(rng.standard_normal((batch, *shape)).astype(np.float32), device)
    y = rng.integers(0, ACTIVITIES, batch).astype(np.int32)

    def run() -> None:
        step(x, y)
        step.wait()

    result = median_ms(run, runs)
    if profile:
        feeds = {**step.feeds((x, y)), optim.optimizer.STEP_INPUT: step.optimizer.numbers(0)}
        print(f"{name} {device} {dtype} batch {batch}: {result:.3f} ms")
        print_profile(step.model.create_session().profile(feeds))
    return result


def torch_network(name: str) -> Any:
    """The network in PyTorch."""
    from tests.models import twins

    if name == "activity":
        return torch_activity()
    return getattr(twins, name)(10 if name == "lenet" else CLASSES)


def measure_torch(
    name: str, dtype: str, batch: int, runs: int, tf32: bool = False, graph: bool = False
) -> float:
    """Milliseconds of a step of PyTorch, on CUDA where it is there; with `graph` it is captured
    once and replayed, float32 on CUDA only."""
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    where = "cuda" if torch.cuda.is_available() else "cpu"
    half = dtype == "float16"
    shape = network(name)[1]
    net = torch_network(name).to(where).train()
    x = torch.randn(batch, *shape, device=where)
    if half and len(shape) == 3:
        net, x = (v.to(memory_format=torch.channels_last) for v in (net, x))
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    scaler = torch.amp.GradScaler(where, enabled=half)
    y = torch.randint(0, ACTIVITIES, (batch,), device=where)

    def start() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(where, torch.float16, enabled=half):
            loss = torch.nn.functional.cross_entropy(net(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    start = captured(start) if graph else start

    def run() -> None:
        start()
        if where == "cuda":
            torch.cuda.synchronize()

    return median_ms(run, runs)


def captured(step: Any) -> Any:
    """A CUDA graph of a step, as a function that replays it."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def torch_times(name: str, dtype: str, batch: int, runs: int) -> dict[str, float | str]:
    """Milliseconds by what was measured, or why it could not be."""
    import torch

    kinds: dict[str, dict[str, bool]] = {"torch": {}}
    if dtype == "float32":
        kinds["torch_tf32"] = {"tf32": True}
        if name == "activity" and torch.cuda.is_available():
            kinds["torch_graph"] = {"graph": True}
    times: dict[str, float | str] = {}
    for key, options in kinds.items():
        try:
            times[key] = measure_torch(name, dtype, batch, runs, **options)
        except Exception as error:  # the others are still worth measuring
            times[key] = f"{type(error).__name__}: {error}"
    eager, graph = times["torch"], times.get("torch_graph")
    if isinstance(eager, float) and isinstance(graph, float):
        times.update(torch_eager=eager, torch=min(eager, graph))
    return times


LIMITS = {"float16": (1.25, 1.6), "float32": (1.1, 1.6), "activity": (1.0, 1.6)}
"""Times PyTorch's time on the better and on the other API, by dtype, or by network."""


def judge(row: dict[str, Any], devices: list[str]) -> None:
    """Adds the ratios to PyTorch's time, and whether they are within the limits."""
    times = sorted(row[d] for d in devices if isinstance(row[d], float))
    if not isinstance(row["torch"], float) or len(times) < len(devices):
        row["pass"] = False
        return
    ratios = [time / row["torch"] for time in times]
    row["best_ratio"], row["other_ratio"] = ratios[0], ratios[-1]
    best, other = LIMITS.get(row["network"], LIMITS[row["dtype"]])
    row["pass"] = ratios[0] <= best and ratios[-1] <= other


def device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default="resnet50")
    parser.add_argument("--devices", default="vulkan,opencl")
    parser.add_argument("--dtypes", default="float32,float16")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--profile", action="store_true", help="print the time of each kernel")
    chosen = parser.parse_args()
    rows = []
    for name in chosen.networks.split(","):
        for dtype in chosen.dtypes.split(","):
            row: dict[str, Any] = {"network": name, "dtype": dtype, "batch": chosen.batch}
            for device in chosen.devices.split(","):
                try:
                    row[device] = measure_dlk(
                        name, device, dtype, chosen.batch, chosen.runs, chosen.profile
                    )
                except Exception as error:  # the others are still worth measuring
                    row[device] = f"{type(error).__name__}: {error}"
            row.update(torch_times(name, dtype, chosen.batch, chosen.runs))
            judge(row, chosen.devices.split(","))
            row = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}
            rows.append(row)
            print(row, flush=True)
            if chosen.output:
                result = {
                    "device": device_name(),
                    "unit": f"ms a step, median of {chosen.runs}, waited for; inputs in device "
                    "memory; torch is PyTorch in the same run, torch_tf32 with its TF32 products",
                    "limits": LIMITS,
                    "command": "python benchmarks/training.py " + " ".join(sys.argv[1:]),
                    "rows": rows,
                }
                chosen.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
