"""The optimizers, with PyTorch's arithmetic and defaults."""

from __future__ import annotations

from typing import Any

import numpy as np

from .optimizer import Optimizer
from .schedule import Schedule


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, dampening and Nesterov's variant."""

    kind = "sgd"

    def __init__(
        self,
        lr: float | Schedule,
        momentum: float = 0.0,
        *,
        nesterov: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        if nesterov and not momentum:
            raise ValueError("Nesterov's variant needs a momentum")
        self.momentum, self.nesterov = float(momentum), nesterov
        self.state_names = ("momentum",) if momentum else ()

    def attributes(self) -> dict[str, Any]:
        return {"kind": self.kind, "a": self.momentum, "b": 1.0, "nesterov": int(self.nesterov)}


class Adam(Optimizer):
    """Kingma and Ba, "Adam" (2015), algorithm 1."""

    kind = "adam"
    state_names = ("mean", "square")

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.betas, self.eps = betas, eps

    def corrections(self, step: int) -> tuple[float, float]:
        return 1.0 - self.betas[0] ** (step + 1), (1.0 - self.betas[1] ** (step + 1)) ** 0.5

    def attributes(self) -> dict[str, Any]:
        a, b = self.betas
        return {"kind": self.kind, "a": float(a), "b": float(b), "epsilon": float(self.eps)}


class AdamW(Adam):
    """Adam with decoupled decay: Loshchilov and Hutter (2019), algorithm 2."""

    kind = "adamw"

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        **options: Any,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay=weight_decay, **options)


class RMSProp(Optimizer):
    """Divides by a running root mean square: Hinton's lecture 6e, as in PyTorch."""

    kind = "rmsprop"

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        *,
        centered: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.alpha, self.eps, self.momentum = alpha, eps, momentum
        self.state_names = ("square", "momentum", "mean")[: 3 if centered else 2 if momentum else 1]

    def attributes(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "a": float(self.alpha),
            "b": float(self.momentum),
            "epsilon": float(self.eps),
        }


class Adagrad(Optimizer):
    """Duchi, Hazan and Singer (2011), as in PyTorch."""

    kind = "adagrad"
    state_names = ("sum",)

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        lr_decay: float = 0.0,
        eps: float = 1e-10,
        initial_accumulator: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.lr_decay, self.eps, self.initial = lr_decay, eps, initial_accumulator

    def rate(self, step: int) -> float:
        return self.lr(step) / (1.0 + step * self.lr_decay)

    def initial_state(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.initial, np.float32)

    def attributes(self) -> dict[str, Any]:
        return {"kind": self.kind, "epsilon": float(self.eps)}


class Lion(Optimizer):
    """Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023), algorithm 2."""

    kind = "lion"
    state_names = ("mean",)

    def __init__(
        self,
        lr: float | Schedule = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.betas = betas

    def attributes(self) -> dict[str, Any]:
        return {"kind": self.kind, "a": float(self.betas[0]), "b": float(self.betas[1])}
