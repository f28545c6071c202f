"""What an optimizer is: how it adds its update to a graph, and what it needs from step to step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlk.nn import arithmetic as A
from dlk.nn.builder import GraphBuilder, Value

from .schedule import Schedule, as_schedule

STEP_INPUT = "optimizer/step"
"""Graph input of five float32: learning rate, two bias corrections, weight decay, L1 penalty."""


@dataclass(frozen=True)
class Update:
    """What one parameter becomes: its value, its gradient and where its state is."""

    name: str
    parameter: Value
    gradient: Value


class Optimizer:
    """Base of all optimizers.

    Args:
        lr: learning rate, or a schedule (a function of the step).
        weight_decay: L2 penalty (SGD, Adam, RMSProp, Adagrad) or decoupled decay (AdamW, Lion).
        l1: L1 penalty.
        clip_value: limit of each number of a gradient; None for none.
        clip_norm: limit of the norm of all gradients together (those limited by `clip_value`, if it
            is there); None for none.
    """

    kind = ""
    state_names: Sequence[str] = ()

    def __init__(
        self,
        lr: float | Schedule,
        *,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        self.lr = as_schedule(lr)
        self.weight_decay, self.l1 = float(weight_decay), float(l1)
        self.clip_norm, self.clip_value = clip_norm, clip_value

    def corrections(self, step: int) -> tuple[float, float]:  # noqa: ARG002
        """The two bias corrections of step 0, 1, ..."""
        return 1.0, 1.0

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        return self.lr(step)

    def numbers(self, step: int) -> np.ndarray:
        """What `STEP_INPUT` gets at step 0, 1, ..."""
        values = [self.rate(step), *self.corrections(step), self.weight_decay, self.l1]
        return np.array(values, np.float32)

    def attributes(self) -> dict[str, Any]:
        """Attributes of the OptimizerStep nodes."""
        return {"kind": self.kind}

    def initial_state(self, shape: tuple[int, ...]) -> np.ndarray:
        """First value of the state tensors."""
        return np.zeros(shape, np.float32)

    def apply(
        self,
        builder: GraphBuilder,
        updates: Sequence[Update],
        inverse_scale: Value | None = None,
    ) -> dict[str, Value]:
        """Adds the update of all parameters; returns their new values by name.

        `inverse_scale` is a scalar that gradients are multiplied with first (loss scaling); where
        it is not finite, the step changes nothing.
        """
        numbers = builder.input(STEP_INPUT, (5,))
        scale = inverse_scale if inverse_scale is not None else builder.value_of(1.0, "float32")
        gradients = self.limited([u.gradient for u in updates], scale)
        if self.clip_norm is not None:
            norm = A.sqrt(self.squared_norm(gradients)) * scale
            scale = scale * A.minimum(float(self.clip_norm) / (norm + 1e-6), 1.0)
        tensors = []
        for update, gradient in zip(updates, gradients, strict=True):
            shape = tuple(int(d) for d in update.parameter.shape if isinstance(d, int))
            states = [
                builder.variable(f"{update.name}/{s}", self.initial_state(shape))
                for s in self.state_names
            ]
            tensors.append((gradient, update.parameter, states))
        results = {}
        made = self.update_all(builder, numbers, scale, tensors)
        for update, (_, parameter, states), values in zip(updates, tensors, made, strict=True):
            for variable, value in zip([parameter, *states], values, strict=True):
                builder.graph.assign(variable.id, value.id)
            results[update.name] = values[0]
        return results

    def update_all(
        self,
        builder: GraphBuilder,
        numbers: Value,
        scale: Value,
        tensors: Sequence[tuple[Value, Value, Sequence[Value]]],
    ) -> list[Sequence[Value]]:
        """New values of all parameters and of their states, from (gradient, parameter, states)."""
        inputs, shapes = [numbers, scale], []
        for gradient, parameter, states in tensors:
            inputs += [gradient, parameter, *states]
            shapes += [parameter.shape] * (1 + len(states))
        attributes = {**self.attributes(), "tensors": len(tensors)}
        made = builder.ops("OptimizerStep", inputs, shapes, attributes, "float32", domain="dlk")
        each = 1 + len(self.state_names)
        return [made[i : i + each] for i in range(0, len(made), each)]

    def limited(self, gradients: Sequence[Value], scale: Value) -> list[Value]:
        """Gradients whose numbers, times `scale`, are within `clip_value`."""
        if self.clip_value is None:
            return list(gradients)
        limit = float(self.clip_value) / scale
        return [A.maximum(A.minimum(g, limit), limit * -1.0) for g in gradients]

    @staticmethod
    def squared_norm(gradients: Sequence[Value]) -> Value:
        """The sum of the squares of all numbers."""
        squares = [A.reduce_sum(A.square(g)) for g in gradients]
        total = squares[0]
        for square in squares[1:]:
            total = total + square
        return total


class Custom(Optimizer):
    """An optimizer whose update is an expression.

        def momentum(p, g, state, lr):
            v = 0.9 * state["v"] + g
            return p - lr * v, {"v": v}

        optimizer = optim.Custom(momentum, lr=0.1, state=("v",))

    Args:
        rule: (parameter, gradient, state by name, learning rate), all graph values, to the new
            parameter and the new state by name.
        state: names of the state tensors, zero at first.
    """

    def __init__(
        self,
        rule: Callable[
            [Value, Value, Mapping[str, Value], Value], tuple[Value, Mapping[str, Value]]
        ],
        lr: float | Schedule,
        *,
        state: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.rule, self.state_names = rule, tuple(state)
        if self.weight_decay or self.l1:
            raise ValueError("state weight decay and L1 in the custom rule itself")

    def update_all(
        self,
        builder: GraphBuilder,  # noqa: ARG002
        numbers: Value,
        scale: Value,
        tensors: Sequence[tuple[Value, Value, Sequence[Value]]],
    ) -> list[Sequence[Value]]:
        """New values by the rule."""
        rate = A.slice_axis(numbers, 0, 0, 1)
        made: list[Sequence[Value]] = []
        for gradient, parameter, states in tensors:
            known = dict(zip(self.state_names, states, strict=True))
            value, state = self.rule(parameter, gradient * scale, known, rate)
            if set(state) != set(self.state_names):
                raise ValueError(
                    f"the rule gives state {sorted(state)}, not {list(self.state_names)}"
                )
            made.append([value, *(state[name] for name in self.state_names)])
        return made
