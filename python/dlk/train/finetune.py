"""Changing a pretrained network: freezing, and low-rank adapters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlk.nn.builder import Value
from dlk.nn.layers import Conv1d, Conv2d, Linear
from dlk.nn.module import Module, Parameter, normal, zeros

Adapted = Linear | Conv1d | Conv2d


def freeze(module: Module, keep: Callable[[str], bool] | None = None) -> list[str]:
    """Stops training of all parameters but those whose name `keep` accepts; returns what is still
    trained. What is frozen costs no gradient, and frozen batch normalization keeps its statistics
    and uses them."""
    trained = []
    for name, parameter in module.named_parameters():
        if keep is not None and keep(name) and parameter.trainable:
            trained.append(name)
        else:
            parameter.trainable = False
    return trained


class LoRA(Module):
    """A frozen layer plus a trained product of two thin matrices: W + (alpha / rank) B A.

    Hu et al., "LoRA" (2021), equation 3. A convolution's weight is (out, in * taps).
    """

    def __init__(self, base: Adapted, rank: int, alpha: float) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError("the rank must be at least 1")
        self.base, self.rank, self.scaling = base, rank, alpha / rank
        freeze(base)
        columns = int(np.prod(base.weight.shape[1:]))
        self.lora_a = Parameter((rank, columns), normal(1.0 / columns**0.5))
        self.lora_b = Parameter((base.weight.shape[0], rank), zeros)

    def forward(self, *inputs: Value) -> Value:
        """As the layer, with the adapted weight."""
        b = inputs[0].builder
        columns = self.lora_a.shape[1]
        product = b.op(
            "MatMul",
            [b.parameter(self.lora_b), b.parameter(self.lora_a)],
            (self.base.weight.shape[0], columns),
        )
        shape = self.base.weight.shape
        change = b.op("Reshape", [product, b.ints(shape, "shape")], shape) * self.scaling
        weight = b.parameter(self.base.weight) + change
        with b.replaced(self.base.weight, weight):
            result: Value = self.base(*inputs)
        return result

    def merged(self) -> np.ndarray:
        """The weight of a plain layer that computes the same."""
        assert self.base.weight.value is not None
        assert self.lora_a.value is not None
        assert self.lora_b.value is not None
        change = (self.lora_b.value @ self.lora_a.value) * np.float32(self.scaling)
        total: np.ndarray = self.base.weight.value + change.reshape(self.base.weight.shape)
        return total


def add_lora(
    module: Module,
    rank: int = 4,
    alpha: float = 8.0,
    where: Callable[[str], bool] = lambda _: True,
    seed: int = 0,
) -> list[str]:
    """Freezes the network and puts adapters on its linear and convolution layers.

    Returns the paths of the adapted layers. ValueError where there is none.
    """
    freeze(module)
    adapted = _replace(module, "", rank, alpha, where, seed)
    if not adapted:
        raise ValueError("there is no linear or convolution layer to adapt")
    return adapted


def merge_lora(module: Module) -> None:
    """Puts plain layers with the merged weights in place of the adapters."""
    for name, child in list(module._children.items()):
        if isinstance(child, LoRA):
            child.base.weight.value = child.merged()
            _set_child(module, name, child.base)
        else:
            merge_lora(child)


def _replace(
    module: Module,
    prefix: str,
    rank: int,
    alpha: float,
    where: Callable[[str], bool],
    seed: int,
) -> list[str]:
    adapted = []
    for name, child in list(module._children.items()):
        path = prefix + name
        if isinstance(child, (Linear, Conv1d, Conv2d)) and where(path):
            adapter = LoRA(child, rank, alpha)
            adapter.lora_a.initialize(f"{path}.lora_a", seed)
            adapter.lora_b.initialize(f"{path}.lora_b", seed)
            _set_child(module, name, adapter)
            adapted.append(path)
        else:
            adapted += _replace(child, f"{path}.", rank, alpha, where, seed)
    return adapted


def _set_child(module: Module, name: str, child: Module) -> None:
    module._children[name] = child
    if hasattr(module, name):
        object.__setattr__(module, name, child)
