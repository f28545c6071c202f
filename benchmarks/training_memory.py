#!/usr/bin/env python3
"""Memory of a training step: what dlk plans and, on CUDA, what PyTorch allocates at most.

    python benchmarks/training_memory.py --networks resnet50 --batch 32 --device vulkan

Bytes: activations, gradients and temporaries packed by lifetime, weights, optimizer state, batch.
`recompute` is the same step with checkpointing of activations. Nothing of dlk's is run, so that any
device will do; which kernels a device gets decides their workspaces.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def dlk_bytes(name: str, device: str, dtype: str, batch: int, recompute: str | None) -> int:
    """Planned peak of a step of dlk."""
    from dlk import nn, optim, train, zoo

    net, size = zoo.module(name), zoo.network(name).image_size
    net.initialize(0)
    step = train.TrainStep(
        net, {"x": ("N", 3, size, size)}, {"labels": (("N",), "int32")},
        lambda y, labels: nn.losses.cross_entropy(y, labels),
        optim.SGD(0.01, momentum=0.9), device=device, dtype=dtype, recompute=recompute,
        sizes={"N": batch},
    )  # fmt: skip
    x = np.zeros((batch, 3, size, size), np.float32)
    return step.memory(x, np.zeros(batch, np.int32)).peak_bytes


def torch_bytes(name: str, dtype: str, batch: int) -> int:
    """`torch.cuda.max_memory_allocated` of the same step, after one to warm up."""
    import torch
    from dlk import zoo

    from tests.models import twins

    size = zoo.network(name).image_size
    net = getattr(twins, name)(1000).cuda().train()
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    scaler = torch.amp.GradScaler("cuda", enabled=dtype == "float16")
    x = torch.randn(batch, 3, size, size, device="cuda")
    y = torch.randint(0, 1000, (batch,), device="cuda")
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.float16, enabled=dtype == "float16"):
            loss = torch.nn.functional.cross_entropy(net(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated())


def has_cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default="resnet50")
    parser.add_argument("--device", default="vulkan")
    parser.add_argument("--dtypes", default="float32,float16")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    rows = []
    for name in chosen.networks.split(","):
        for dtype in chosen.dtypes.split(","):
            row: dict[str, Any] = {"network": name, "dtype": dtype, "batch": chosen.batch}
            row["dlk"] = dlk_bytes(name, chosen.device, dtype, chosen.batch, None)
            row["dlk_recompute"] = dlk_bytes(name, chosen.device, dtype, chosen.batch, "auto")
            gc.collect()
            row["torch"] = torch_bytes(name, dtype, chosen.batch) if has_cuda() else None
            if row["torch"]:
                row["ratio"] = row["dlk"] / row["torch"]
                row["recompute_ratio"] = row["dlk_recompute"] / row["torch"]
                row["pass"] = row["ratio"] <= 1.0 and row["recompute_ratio"] <= 0.5
            rows.append(row)
            print(row, flush=True)
    if chosen.output:
        table = {"device": chosen.device, "unit": "bytes", "rows": rows}
        chosen.output.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
