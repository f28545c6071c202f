#!/usr/bin/env python3
"""Whole training steps against PyTorch on the same device: forward, backward, momentum, statistics.

    python benchmarks/training.py --networks resnet50 --devices vulkan --batch 64 --profile

Medians of steps that are waited for; float16 is PyTorch's automatic mixed precision with a gradient
scaler, and dlk's `dtype="float16"` with its loss scale. dlk's float32 is float32 all through, so
PyTorch's convolutions may not round to TF32 (`torch`); with that, its default, they are
`torch_tf32`. --profile adds the time of each kernel in one step of dlk.
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


def network(name: str) -> tuple[Any, tuple[int, int, int]]:
    """A network of dlk and its image's shape."""
    if name == "lenet":
        return lenet(), (1, 28, 28)
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
    y = rng.integers(0, 10, batch).astype(np.int32)

    def run() -> None:
        step(x, y)
        step.wait()

    result = median_ms(run, runs)
    if profile:
        feeds = {**step.feeds((x, y)), optim.optimizer.STEP_INPUT: step.optimizer.numbers(0)}
        print(f"{name} {device} {dtype} batch {batch}: {result:.3f} ms")
        print_profile(step.model.create_session().profile(feeds))
    return result


def measure_torch(name: str, dtype: str, batch: int, runs: int, tf32: bool = False) -> float:
    """Milliseconds of a step of PyTorch, on CUDA where it is there."""
    import torch

    from tests.models import twins

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    where = "cuda" if torch.cuda.is_available() else "cpu"
    shape = network(name)[1]
    net = getattr(twins, name)(10 if name == "lenet" else 1000).to(where).train()
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    scaler = torch.amp.GradScaler(where, enabled=dtype == "float16")
    x = torch.randn(batch, *shape, device=where)
    y = torch.randint(0, 10, (batch,), device=where)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(where, torch.float16, enabled=dtype == "float16"):
            loss = torch.nn.functional.cross_entropy(net(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if where == "cuda":
            torch.cuda.synchronize()

    return median_ms(run, runs)


LIMITS = {"float16": (1.25, 1.6), "float32": (1.1, 1.6)}
"""Times PyTorch's time on the better and on the other API, by dtype."""


def judge(row: dict[str, Any], devices: list[str]) -> None:
    """Adds the ratios to PyTorch's time, and whether they are within the limits."""
    times = sorted(row[d] for d in devices if isinstance(row[d], float))
    if not isinstance(row["torch"], float) or len(times) < len(devices):
        row["pass"] = False
        return
    ratios = [time / row["torch"] for time in times]
    row["best_ratio"], row["other_ratio"] = ratios[0], ratios[-1]
    best, other = LIMITS[row["dtype"]]
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
            for key in ("torch", "torch_tf32") if dtype == "float32" else ("torch",):
                try:
                    row[key] = measure_torch(
                        name, dtype, chosen.batch, chosen.runs, key == "torch_tf32"
                    )
                except Exception as error:
                    row[key] = f"{type(error).__name__}: {error}"
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
