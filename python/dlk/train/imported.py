"""A training step for any graph, with a loss that suits its outputs: to measure it."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlk import _core, nn, optim
from dlk.device import Device

from .step import TrainStep


def training_step(
    graph: _core.Graph, batch: int, device: Device | str | None, dtype: str = "float32"
) -> tuple[TrainStep, list[np.ndarray]]:
    """A step of SGD with momentum, and a random batch for it.

    A result (N, classes) is compared with labels, any other with zeros by squared error. Symbolic
    first dimensions become `batch`, others 1.

    Raises:
        ValueError: inputs that are not float32, a fixed batch of another size, nothing to train.
        NotImplementedError: an operator has no gradient.
    """
    net = nn.Imported(graph, list(graph.output_names)[:1])
    rng = np.random.default_rng(0)
    inputs: dict[str, tuple[int, ...]] = {}
    arrays: list[np.ndarray] = []
    for value in graph.inputs:
        if value.dtype != "float32":
            raise ValueError(f"input {value.name!r} is {value.dtype}; only float32 is trained")
        shape = _with_batch(value, batch)
        inputs[value.name] = shape
        arrays.append(rng.standard_normal(shape).astype(np.float32))
    probe = nn.GraphBuilder(trainable=True)
    result = net(*[probe.input(name, shape) for name, shape in inputs.items()])
    if len(result.shape) == 2 and isinstance(result.shape[1], int) and result.shape[1] > 1:
        labels = rng.integers(0, result.shape[1], batch).astype(np.int32)
        targets: dict[str, Any] = {"labels": ((batch,), "int32")}
        arrays.append(labels)
    else:
        targets = {}
    step = TrainStep(
        net, inputs, targets, _classify if targets else _square,
        optim.SGD(0.001, momentum=0.9), device=device, dtype=dtype,
    )  # fmt: skip
    return step, arrays


def _classify(y: nn.Value, labels: nn.Value) -> nn.Value:
    return nn.losses.cross_entropy(y, labels)


def _square(y: nn.Value) -> nn.Value:
    return nn.arithmetic.reduce_mean(nn.arithmetic.square(y))


def _with_batch(value: _core.Value, batch: int) -> tuple[int, ...]:
    shape = list(value.shape or ())
    if shape and isinstance(shape[0], int) and batch not in (1, shape[0]):
        raise ValueError(f"input {value.name} has the fixed batch {shape[0]}; leave --batch out")
    return tuple(d if isinstance(d, int) else (batch if i == 0 else 1) for i, d in enumerate(shape))


__all__ = ["training_step"]
