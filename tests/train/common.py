"""What the training tests share: small networks in dlk and in PyTorch with the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from dlk import nn, optim, train


def lenet(dropout: float = 0.0) -> nn.Sequential:
    """LeNet's shape for (N, 1, 28, 28) and 10 classes."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 10),
    )  # fmt: skip


def torch_lenet() -> torch.nn.Sequential:
    """The same in PyTorch."""
    t = torch.nn
    return t.Sequential(
        t.Conv2d(1, 8, 5), t.ReLU(), t.MaxPool2d(2),
        t.Conv2d(8, 16, 5), t.ReLU(), t.MaxPool2d(2),
        t.Flatten(), t.Linear(256, 64), t.ReLU(), t.Identity(), t.Linear(64, 10),
    )  # fmt: skip


def state_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {k: v.detach().numpy().copy() for k, v in module.state_dict().items()}


def images(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise whose mean decides the class: something that can be learnt."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 1, 28, 28)).astype(np.float32)
    y = rng.integers(0, 10, count).astype(np.int32)
    for i, label in enumerate(y):
        x[i, 0, 2 * label : 2 * label + 4] += 1.5
    return x, y


def classifier_loss(y: nn.Value, labels: nn.Value) -> Any:
    return nn.losses.cross_entropy(y, labels), {"accuracy": nn.losses.accuracy(y, labels)}


def classifier(
    net: nn.Module, optimizer: optim.Optimizer, device: Any, **options: Any
) -> train.TrainStep:
    return train.TrainStep(
        net,
        {"x": ("N", 1, 28, 28)},
        {"labels": (("N",), "int32")},
        classifier_loss,
        optimizer,
        device=device,
        **options,
    )
