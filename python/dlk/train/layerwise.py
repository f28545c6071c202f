"""Training layer by layer: the device holds the weights of one part of the network at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlk import _core
from dlk.device import Device, as_device
from dlk.nn.builder import STEP_NUMBER, Dim, GraphBuilder, Value
from dlk.nn.module import Module, Parameter
from dlk.optim.optimizer import STEP_INPUT, Optimizer

from .providers import WeightProvider, loaded

Arrays = dict[str, NDArray[Any]]


class _Stage:
    """One part as models whose weights are inputs: its forward pass, and its backward pass with the
    update, which computes the forward pass again. Where the norm of all gradients is limited, a
    third one is the backward pass that only adds up this part's share of it."""

    def __init__(self, owner: LayerwiseStep, index: int, module: Module, x: Value) -> None:
        self.module, self.index = module, index
        self.parameters = list(module.named_parameters(f"{index}."))
        for name, parameter in self.parameters:
            parameter.name = name
        self.last = index == len(owner.stages) - 1
        self.shape = x.shape
        forward = GraphBuilder(trainable=True, training=True)
        y = self._run(owner, forward)
        self.result_shape = y.shape
        forward.output(y, "y")
        self.forward = _core.Model(forward.graph, owner.device.handle)
        self.backward = self._backward_model(owner, measures=False)
        self.measure = (
            None
            if owner.optimizer.clip_norm is None
            else self._backward_model(owner, measures=True)
        )

    def _backward_model(self, owner: LayerwiseStep, measures: bool) -> Any:
        builder = GraphBuilder(trainable=True, training=True)
        self._differentiate(owner, builder, measures)
        return _core.Model(builder.graph, owner.device.handle)

    def _run(self, owner: LayerwiseStep, b: GraphBuilder) -> Value:
        b.seed = owner.seed * 1009 + self.index
        for name, parameter in self.parameters:
            b.supply(parameter, b.input(name, parameter.shape))
        y: Value = self.module(b.input("x", self.shape))
        return y

    def _differentiate(self, owner: LayerwiseStep, b: GraphBuilder, measures: bool) -> None:
        y = self._run(owner, b)
        if self.last:
            targets = [b.input(n, shape, dtype) for n, (shape, dtype) in owner.targets.items()]
            objective = owner.loss_function(y, *targets)
            b.output(objective, "loss")
            gate, cotangents = objective * 0.0 + 1.0, []
        else:
            objective = y
            gate, cotangents = b.input("gate", (1,)), [b.input("dy", y.shape).id]
        trained = [(n, p) for n, p in self.parameters if p.trainable and b.has_parameter(p)]
        values = [b.parameter(p) for _, p in trained]
        x = b.graph.find("x")
        assert x is not None
        wanted = [v.id for v in values] + ([] if self.index == 0 else [x])
        found = b.graph.gradients([objective.id], wanted, cotangents)
        if self.index:
            assert found[-1] is not None
            b.graph.add_output(found[-1], "dx")
        b.output(gate, "gate out")
        tensors = [
            (Value(b, gradient, value.shape), name, parameter, value)
            for (name, parameter), value, gradient in zip(trained, values, found, strict=False)
            if gradient is not None
        ]
        limited = owner.optimizer.limited([t[0] for t in tensors], gate)
        if measures:
            if limited:
                b.output(owner.optimizer.squared_norm(limited), "squares")
            return
        if owner.optimizer.clip_norm is not None:
            gate = gate * b.input("clip", (1,))
        self._update(owner, b, gate, [(g, *t[1:]) for g, t in zip(limited, tensors, strict=True)])

    def _update(
        self,
        owner: LayerwiseStep,
        b: GraphBuilder,
        gate: Value,
        gradients: Sequence[tuple[Value, str, Parameter, Value]],
    ) -> None:
        numbers = b.input(STEP_INPUT, (5,))
        self.states: list[str] = []
        keys, tensors = [], []
        for gradient, name, parameter, value in gradients:
            names = [f"{name}/{s}" for s in owner.optimizer.state_names]
            self.states += names
            keys.append([name, *names])
            states = [b.input(s, parameter.shape) for s in names]
            tensors.append((gradient, value, states))
        made = owner.optimizer.update_all(b, numbers, gate, tensors) if tensors else []
        for names, results in zip(keys, made, strict=True):
            for key, new in zip(names, results, strict=True):
                b.output(new, f"new {key}")
        for old, new in b.statistics:
            bad = b.op("IsNaN", [gate], gate.shape, dtype="bool")
            kept = b.op("Where", [bad, old, new], old.shape)
            b.output(kept, f"new {b.graph.value(old.id).name}")


class LayerwiseStep:
    """A training step of a network that is larger than the device's memory.

    Each part's weights are loaded from the provider, used, and purged: first forward through all
    parts, then backward, where each part is computed again, updated, and given back. Activations
    between the parts are in host memory. The results are those of `TrainStep`. An optimizer's
    `clip_norm` takes a second pass backward: the first one finds the norm of all gradients.

        weights = train.FolderWeights("weights")
        step = train.LayerwiseStep(parts, ("N", 3, 224, 224), {"labels": (("N",), "int32")},
                                   loss, optim.SGD(0.1, momentum=0.9), weights)

    Args:
        stages: parts of the network, each from one value to one.
        shape: of the input.
        targets, loss, optimizer, seed: as for `TrainStep`; the loss gives no metrics.
        provider: of weights; parameter names are ``"PART.path"``. First values that it does not
            have are those of the modules, else drawn from `seed`.

    Raises:
        ValueError: no parts.
    """

    def __init__(
        self,
        stages: Sequence[Module],
        shape: Sequence[Dim],
        targets: Mapping[str, tuple[Sequence[Dim], str]],
        loss: Callable[..., Value],
        optimizer: Optimizer,
        provider: WeightProvider,
        *,
        device: Device | str | None = None,
        seed: int = 0,
    ) -> None:
        if not stages:
            raise ValueError("a network has at least one part")
        self.stages, self.targets, self.loss_function = list(stages), dict(targets), loss
        self.optimizer, self.provider, self.seed = optimizer, provider, seed
        self.device, self.steps = as_device(device), 0
        self._parts: list[_Stage] = []
        x = GraphBuilder().input("x", shape)
        for index, module in enumerate(self.stages):
            self._fill(index, module)
            self._parts.append(_Stage(self, index, module, x))
            x = GraphBuilder().input("x", self._parts[-1].result_shape)

    def _fill(self, index: int, module: Module) -> None:
        for name, parameter in module.named_parameters(f"{index}."):
            try:
                self.provider.load(name)
            except KeyError:
                if parameter.value is None:
                    parameter.initialize(name, self.seed)
                assert parameter.value is not None
                self.provider.update(name, parameter.value)
                if parameter.trainable:
                    for state in self.optimizer.state_names:
                        first = self.optimizer.initial_state(parameter.shape)
                        self.provider.update(f"{name}/{state}", first)
                        self.provider.purge(f"{name}/{state}")
            self.provider.purge(name)
            parameter.value = None

    def __call__(self, x: Any, *targets: Any) -> float:
        """Trains on a batch; the loss. A loss that is not finite changes nothing.

        Raises:
            ValueError: the wrong number of arrays, or shapes that do not fit.
            FloatingPointError: the loss is not finite.
        """
        if len(targets) != len(self.targets):
            raise ValueError(f"a step takes x, {', '.join(self.targets)}")
        values = [np.ascontiguousarray(x, np.float32)]
        for part in self._parts[:-1]:
            values.append(self._use(part, part.forward, {"x": values[-1]})["y"])
        feeds: Arrays = {"x": values.pop()}
        for (name, (_, dtype)), array in zip(self.targets.items(), targets, strict=True):
            feeds[name] = np.ascontiguousarray(array, dtype)
        if self.optimizer.clip_norm is None:
            loss = self._backward(feeds, values, None)
        else:
            # Nothing is changed before the norm of all gradients is known.
            squares: list[float] = []
            loss = self._backward(feeds, list(values), squares)
            norm = float(np.sqrt(np.sum(squares)))
            feeds["clip"] = np.array(
                [min(self.optimizer.clip_norm / (norm + 1e-6), 1.0)], np.float32
            )
            self._backward(feeds, values, None)
        self.steps += 1
        return loss

    def _backward(self, feeds: Arrays, values: list[Any], squares: list[float] | None) -> float:
        """The loss, from the last part's feeds and the inputs of the parts before. With `squares`,
        the parts' shares of the squared norm are appended, and nothing is updated."""
        loss, clip = float("nan"), feeds.get("clip")
        for part in reversed(self._parts):
            made = self._use(part, part.backward if squares is None else part.measure, feeds)
            if part.last:
                loss = float(made["loss"])
                if not np.isfinite(loss):
                    raise FloatingPointError(f"step {self.steps}: the loss is {loss}")
            if squares is not None and "squares" in made:
                squares.append(float(made["squares"]))
            if values:
                gate = made["gate out"].reshape(1)
                feeds = {"x": values.pop(), "dy": made["dx"], "gate": gate}
                if clip is not None:
                    feeds["clip"] = clip
        return loss

    def _use(self, part: _Stage, model: Any, feeds: Arrays) -> Arrays:
        declared = {i.name for i in model.inputs}
        known = [n for n, _ in part.parameters if n in declared]
        known += [s for s in part.states if s in declared]
        with loaded(self.provider, known) as weights:
            given = {**feeds, **weights}
            if STEP_INPUT in declared:
                given[STEP_INPUT] = self.optimizer.numbers(self.steps)
            if STEP_NUMBER in declared:
                given[STEP_NUMBER] = np.array([self.steps], np.int32)
            # A session of its own: its memory goes with it.
            made: Arrays = model.create_session().run(
                {n: a for n, a in given.items() if n in declared}
            )
        if "loss" in made and not np.isfinite(made["loss"]).all():
            return made
        for name in [n for n in made if n.startswith("new ")]:
            key = name.removeprefix("new ")
            self.provider.update(key, made.pop(name).reshape(self._shape(part, key)))
            self.provider.purge(key)
        return made

    @staticmethod
    def _shape(part: _Stage, key: str) -> tuple[int, ...]:
        return dict(part.parameters)[key.split("/")[0]].shape


__all__ = ["LayerwiseStep"]
