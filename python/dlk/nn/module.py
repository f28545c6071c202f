"""Modules and parameters: a tree with PyTorch's naming, independent of any graph."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .builder import Value

Initializer = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def zeros(_: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """All zero, float32."""
    return np.zeros(shape, np.float32)


def ones(_: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """All one, float32."""
    return np.ones(shape, np.float32)


def normal(std: float) -> Initializer:
    """Normal with mean 0."""

    def make(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        values = generator.standard_normal(shape, np.float32)
        values *= np.float32(std)
        return values

    return make


def kaiming_normal(fan_in: int, gain: float = 2**0.5) -> Initializer:
    """Normal with std gain / sqrt(fan_in): keeps the variance through ReLU layers.

    He et al., "Delving Deep into Rectifiers" (2015), equation 10.
    """
    return normal(gain / max(fan_in, 1) ** 0.5)


class Parameter:
    """A tensor of a module; made by its initializer when first asked for, or loaded.

    `trainable=False` marks statistics (PyTorch's buffers).
    """

    def __init__(
        self, shape: tuple[int, ...], initializer: Initializer = zeros, trainable: bool = True
    ) -> None:
        self.shape = tuple(shape)
        self.trainable = trainable
        self.name = ""
        self.value: np.ndarray | None = None
        self._initializer = initializer

    def initialize(self, name: str, seed: int) -> None:
        """A new value that depends on the seed and on the name alone."""
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        self.value = self._initializer(generator, self.shape)


class Module:
    """A layer or a network. Attributes that are modules or parameters are its parts; their paths
    ("features.0.weight") are the names of the parameters. Subclasses define `forward`."""

    def __init__(self) -> None:
        self._children: dict[str, Module] = {}
        self._parameters: dict[str, Parameter] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            self._children[name] = value
        elif isinstance(value, Parameter):
            self._parameters[name] = value
        super().__setattr__(name, value)

    def add_module(self, name: str, module: Module) -> None:
        """Adds a part under a name that need not be an identifier."""
        self._children[name] = module

    def forward(self, *inputs: Value) -> Value | tuple[Value, ...]:
        """Adds the module's nodes to the graph of its inputs."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *inputs: Value) -> Any:
        if not inputs or not inputs[0].builder.repeated:
            return self.forward(*inputs)
        with inputs[0].builder.segment(self):
            return self.forward(*inputs)

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """(path, parameter), own ones first, then the children's in order."""
        for name, parameter in self._parameters.items():
            yield prefix + name, parameter
        for name, child in self._children.items():
            yield from child.named_parameters(f"{prefix}{name}.")

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, part) of all parts, outer ones first; the module itself is "" and left out."""
        for name, child in self._children.items():
            yield prefix + name, child
            yield from child.named_modules(f"{prefix}{name}.")

    def initialize(self, seed: int = 0) -> None:
        """Gives every parameter a new value."""
        for name, parameter in self.named_parameters():
            parameter.initialize(name, seed)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Arrays by name. ValueError where `initialize` or `load_state_dict` is still to come."""
        state = {}
        for name, parameter in self.named_parameters():
            if parameter.value is None:
                raise ValueError(
                    f"parameter {name!r} has no value; call initialize() or load_state_dict()"
                )
            state[name] = parameter.value
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray], *, strict: bool = True) -> None:
        """Takes values by name. Values become float32 (all of PyTorch's weights are).

        PyTorch's `num_batches_tracked` counters are left out. Raises ValueError for wrong shapes
        and, when `strict`, for missing and for unknown names; nothing is changed then.
        """
        own = dict(self.named_parameters())
        missing = [name for name in own if name not in state]
        unknown = [
            name for name in state if name not in own and not name.endswith("num_batches_tracked")
        ]
        if strict and (missing or unknown):
            raise ValueError(
                f"the state dict does not fit {type(self).__name__}: missing {_some(missing)}, "
                f"unknown {_some(unknown)}"
            )
        found = {name: np.asarray(state[name]) for name in own if name in state}
        for name, array in found.items():
            if array.shape != own[name].shape:
                raise ValueError(
                    f"parameter {name!r} has shape {list(own[name].shape)}, but the state dict "
                    f"has {list(array.shape)}"
                )
        for name, array in found.items():
            own[name].value = np.ascontiguousarray(array, np.float32).reshape(array.shape)

    def parameter_count(self) -> int:
        """Trainable numbers."""
        return sum(
            int(np.prod(p.shape, dtype=np.int64)) for _, p in self.named_parameters() if p.trainable
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return "nothing" if not names else shown + (f" and {len(names) - 5} more" if names[5:] else "")


class Sequential(Module):
    """Modules one after the other, named "0", "1", ... or by keyword."""

    def __init__(self, *modules: Module, **named: Module) -> None:
        super().__init__()
        for index, module in enumerate(modules):
            self.add_module(str(index), module)
        for name, module in named.items():
            self.add_module(name, module)

    def forward(self, *inputs: Value) -> Any:
        """Each module takes what the one before it gave."""
        (x,) = inputs
        for module in self._children.values():
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._children.values())
