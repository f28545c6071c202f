"""One training step as a model: forward, backward and update in one run on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlk import _core
from dlk.device import Device, as_device
from dlk.nn import arithmetic as A
from dlk.nn.builder import STEP_NUMBER, Dim, GraphBuilder, Value
from dlk.nn.module import Module
from dlk.optim.optimizer import STEP_INPUT, Optimizer, Update
from dlk.tensor import Tensor

from .diagnose import first_nan
from .memory import Recompute, StepMemory, planned_memory
from .scaling import LossScale

LossFunction = Callable[..., Value | tuple[Value, Mapping[str, Value]]]
Shape = Sequence[Dim]


class StepResult:
    """A step under way. Reading a number waits for it."""

    def __init__(self, step: TrainStep, handle: Any, number: int, feeds: dict[str, Any]) -> None:
        self._step, self._handle, self._feeds = step, handle, feeds
        self.number = number
        self._values: dict[str, float] = {}

    def __getitem__(self, name: str) -> float:
        """A metric of this step by name."""
        if name not in self._values:
            self._values[name] = float(self._handle.read(name))
        return self._values[name]

    @property
    def loss(self) -> float:
        """The loss. Raises FloatingPointError where it is not finite, with the operation that first
        made a NaN or an infinity; the weights were not changed then."""
        value = self["loss"]
        if not np.isfinite(value) and self._step.scale is None:
            where = first_nan(self._step, self._feeds)
            raise FloatingPointError(f"step {self.number}: the loss is {value}; {where}")
        return value

    def metrics(self) -> dict[str, float]:
        """The loss and all other metrics."""
        return {"loss": self.loss, **{name: self[name] for name in self._step.metric_names}}


class TrainStep:
    """A network, a loss and an optimizer on a device.

    Args:
        module: the network; its parameters' values are where training starts.
        inputs: shapes of the network's inputs by name, in order; the batch is usually ``"N"``.
        targets: (shape, dtype) of what the loss compares with, by name, in order.
        loss: from the network's results and the targets to a scalar, and metrics by name if wanted.
        optimizer: of `dlk.optim`.
        device, dtype: as for `dlk.Model`; ``"float16"`` stores activations and gradients in 16 bits
            and keeps weights and state in 32, with a loss scale that adapts itself.
        accumulate: how many batches make one update.
        ema: decay of an exponential moving average of the weights; None for none.
        seed: of dropout.
        recompute: what the backward pass computes again instead of keeping it: ``"auto"`` for
            segments that need the least memory, or the paths of parts (``["layer1", "layer2"]``),
            each a segment. None keeps everything. The gradients are the same.
        memory_budget: bytes that the activations and temporaries of a step may take
            (`StepMemory.arena_bytes`); as little as needed is computed again.
        sizes: of symbolic dimensions, by name (``{"N": 32}``), for `memory_budget`.
        options: more options of `dlk.Model`.

    Raises:
        ValueError: a parameter without a value, nothing to train, or an unknown part.
        MemoryError: the step does not fit `memory_budget`.
    """

    def __init__(
        self,
        module: Module,
        inputs: Mapping[str, Shape],
        targets: Mapping[str, tuple[Shape, str]],
        loss: LossFunction,
        optimizer: Optimizer,
        *,
        device: Device | str | None = None,
        dtype: str = "float32",
        accumulate: int = 1,
        ema: float | None = None,
        seed: int = 0,
        recompute: str | Sequence[str] | None = None,
        memory_budget: int | None = None,
        sizes: Mapping[str, int] | None = None,
        **options: Any,
    ) -> None:
        if accumulate < 1:
            raise ValueError("accumulate must be at least 1")
        self._recompute = Recompute(module, recompute, memory_budget, sizes)
        self.module, self.inputs, self.targets = module, dict(inputs), dict(targets)
        self.loss_function, self.optimizer, self.seed = loss, optimizer, seed
        self.device, self.dtype, self.accumulate, self.ema = (
            as_device(device),
            dtype,
            accumulate,
            ema,
        )
        self.scale = LossScale() if dtype == "float16" else None
        self.metric_names: list[str] = []
        self.steps = 0
        self._options = options
        self._sessions: dict[bool, Any] = {}
        self.model = self._recompute.choose(self._make_model)
        self._sessions[True] = self.model.create_session()
        if accumulate > 1:
            gathering = self.build(False).graph
            self.gathering = _core.Model(
                gathering, self.device.handle, dtype, share_variables=self.model, **options
            )
            self._sessions[False] = self.gathering.create_session()

    def _make_model(self) -> Any:
        return _core.Model(self.build(True).graph, self.device.handle, self.dtype, **self._options)

    # Graphs ------------------------------------------------------------------------------------

    def forward(self, builder: GraphBuilder) -> tuple[tuple[Value, ...], list[Value]]:
        """Adds the network to a graph; its results, and the targets."""
        for name, parameter in self.module.named_parameters():
            parameter.name = name
        builder.seed = self.seed
        values = [builder.input(name, shape) for name, shape in self.inputs.items()]
        results = self.module(*values)
        targets = [builder.input(n, shape, dtype) for n, (shape, dtype) in self.targets.items()]
        self._target_ids = {name: t.id for name, t in zip(self.targets, targets, strict=True)}
        return results if isinstance(results, tuple) else (results,), targets

    def build(self, updates: bool | None) -> GraphBuilder:
        """The graph of a step: with the update, one that only adds up gradients, or (None) the
        forward pass alone."""
        builder = GraphBuilder(trainable=True, training=True)
        if updates is not None:
            builder.repeated = self._recompute.parts()
        results, targets = self.forward(builder)
        self.result_count = len(results)
        made = self.loss_function(*results, *targets)
        loss, metrics = made if isinstance(made, tuple) else (made, {})
        if any(d != 1 for d in loss.shape):
            raise ValueError(f"the loss must be one number, not {list(loss.shape)}")
        builder.output(loss, "loss")
        for name, metric in metrics.items():
            builder.output(metric, name)
        self.metric_names = list(metrics)
        limits = builder.label_limits
        self._classes = {n: limits[i] for n, i in self._target_ids.items() if i in limits}
        if updates is None:
            return builder
        parameters = [
            (n, p) for n, p in self.module.named_parameters() if p.trainable and p.value is not None
        ]
        used = [(n, p) for n, p in parameters if builder.has_parameter(p)]
        if not used:
            raise ValueError("there is nothing to train: every parameter is frozen")
        values = [builder.parameter(p) for _, p in used]
        objective = loss if self.scale is None else self.scale.scaled(builder, loss)
        forward = len(builder.graph.nodes)
        found = builder.graph.gradients([objective.id], [v.id for v in values])
        gradients = [
            (n, v, Value(builder, g, v.shape))
            for (n, _), v, g in zip(used, values, found, strict=True)
            if g is not None
        ]
        if not gradients:
            raise ValueError("the loss does not depend on any parameter that can be trained")
        self._finish(builder, loss, gradients, updates)
        self._recompute.apply(builder, forward)
        return builder

    def _finish(
        self,
        builder: GraphBuilder,
        loss: Value,
        gradients: Sequence[tuple[str, Value, Value]],
        updates: bool,
    ) -> None:
        # Where the loss is not finite, nothing is changed: this is NaN then.
        inverse = loss * 0.0 + 1.0
        if self.accumulate > 1:
            gradients = self._gather(builder, gradients, inverse, updates)
        if updates and self.scale is not None:
            inverse = self.scale.update(builder, [g for _, _, g in gradients])
        builder.commit_statistics(inverse)
        if not updates:
            return
        made = self.optimizer.apply(builder, [Update(*g) for g in gradients], inverse)
        if self.ema is None:
            return
        for name, value in made.items():
            parameter = dict(self.module.named_parameters())[name]
            assert parameter.value is not None
            average = builder.variable(f"{name}/average", parameter.value)
            builder.graph.assign(average.id, (average * self.ema + value * (1.0 - self.ema)).id)

    def _gather(
        self,
        builder: GraphBuilder,
        gradients: Sequence[tuple[str, Value, Value]],
        gate: Value,
        updates: bool,
    ) -> list[tuple[str, Value, Value]]:
        """Adds the batch's gradients to those of the batches before; a batch whose `gate` is NaN
        adds nothing. The step that updates starts anew."""
        bad = builder.op("IsNaN", [gate], gate.shape, dtype="bool")
        means = []
        for name, value, gradient in gradients:
            shape = tuple(d for d in value.shape if isinstance(d, int))
            store = builder.variable(f"{name}/gathered", np.zeros(shape, np.float32))
            total = store + A.where(bad, 0.0, gradient)
            # Not a product with 0, which would keep an infinity.
            kept = builder.constant(np.zeros(shape, np.float32), "zeros") if updates else total
            builder.graph.assign(store.id, kept.id)
            means.append((name, value, total * (1.0 / self.accumulate)))
        return means

    # Running -----------------------------------------------------------------------------------

    def feeds(self, arrays: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
        """Arrays by input name, in the graph's dtypes. A `dlk.Tensor` of the right dtype is used
        where it is, on the device.

        Raises:
            ValueError: the wrong number of arrays, an empty batch, or a tensor of another dtype.
        """
        names = [*self.inputs, *self.targets]
        if isinstance(arrays, Mapping):
            given = dict(arrays)
        else:
            if len(arrays) != len(names):
                raise ValueError(
                    f"a step takes {', '.join(names)}; {len(arrays)} arrays were given"
                )
            given = dict(zip(names, arrays, strict=True))
        result: dict[str, Any] = {}
        for name, array in given.items():
            dtype = self.targets[name][1] if name in self.targets else "float32"
            if isinstance(array, Tensor) and array.dtype != dtype:
                raise ValueError(f"{name!r} is a tensor of {array.dtype}; {dtype} is wanted")
            resident = isinstance(array, Tensor)
            value = array.handle if resident else np.ascontiguousarray(array, dtype)
            if value.shape and value.shape[0] == 0:
                raise ValueError(f"the batch of {name!r} is empty")
            result[name] = value
        return result

    def __call__(self, *arrays: Any) -> StepResult:
        """Starts a step with a batch: the inputs, then the targets. Returns at once; waits only
        where two steps are under way."""
        feeds = self.feeds(arrays)
        self._check_labels(feeds)
        updates = (self.steps + 1) % self.accumulate == 0
        model = self.model if updates else self.gathering
        declared = {i.name for i in model.inputs}
        if STEP_INPUT in declared:
            feeds[STEP_INPUT] = self.optimizer.numbers(self.steps // self.accumulate)
        if STEP_NUMBER in declared:
            feeds[STEP_NUMBER] = np.array([self.steps], np.int32)
        if self.accumulate > 1:
            self._wait_other(updates)
        handle = self._sessions[updates].run_async(feeds)
        self.steps += 1
        return StepResult(self, handle, self.steps - 1, feeds)

    def _wait_other(self, updates: bool) -> None:
        # Each graph has a queue of its own; both work on the same variables.
        self._sessions[not updates].wait_all()

    def _check_labels(self, feeds: Mapping[str, Any]) -> None:
        """Targets that the loss takes for class numbers must be such; -100 counts nothing. Labels
        that are on the device are not looked at; wrong ones count nothing there."""
        for name, classes in self._classes.items():
            labels = feeds[name]
            if not isinstance(labels, np.ndarray):
                continue
            wrong = (labels != -100) & ((labels < 0) | (labels >= classes))
            if wrong.any():
                raise ValueError(
                    f"{name!r} holds the label {int(labels[wrong][0])}; there are classes 0 to "
                    f"{classes - 1} (-100 leaves a sample out)"
                )

    def wait(self) -> None:
        """Waits for all steps that were started."""
        for session in self._sessions.values():
            session.wait_all()

    def memory(self, *arrays: Any) -> StepMemory:
        """What a step with such a batch takes on the device. It is planned, not run."""
        feeds = self.feeds(arrays)
        shapes = {name: array.shape for name, array in feeds.items()}
        return planned_memory(self.model, shapes)

    # State -------------------------------------------------------------------------------------

    def variables(self) -> list[str]:
        """Names of everything that training changes: weights, statistics, optimizer state."""
        return [v.name for v in self.model.graph.values if v.kind == "variable"]

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All variables by name, read back from the device."""
        self.wait()
        return {name: self.model.read_variable(name) for name in self.variables()}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Sets all variables. ValueError where a name is missing or a shape differs."""
        self.wait()
        names = self.variables()
        missing = [n for n in names if n not in state]
        if missing:
            raise ValueError(
                f"the state has no {missing[0]!r}: it is of another network or optimizer"
            )
        for name in names:
            self.model.write_variable(name, np.ascontiguousarray(state[name]))

    def pull(self, averaged: bool = False) -> None:
        """Copies the trained weights (or their moving average) into the module's parameters."""
        self.wait()
        known = set(self.variables())
        for name, parameter in self.module.named_parameters():
            source = f"{name}/average" if averaged and f"{name}/average" in known else name
            if source in known:
                parameter.value = self.model.read_variable(source)

    def evaluator(self, **options: Any) -> Evaluator:
        """The network in its inference form, on the same weights without a copy."""
        return Evaluator(self, **options)


class Evaluator:
    """Inference on the weights that a step trains; they are not copied."""

    def __init__(self, step: TrainStep, **options: Any) -> None:
        builder = GraphBuilder(trainable=True)
        results, targets = step.forward(builder)
        made = step.loss_function(*results, *targets)
        loss, metrics = made if isinstance(made, tuple) else (made, {})
        for i, value in enumerate(results):
            builder.output(value, f"y{i}")
        builder.output(loss, "loss")
        for name, metric in metrics.items():
            builder.output(metric, name)
        self.step = step
        self.names = ["loss", *metrics]
        self.model = _core.Model(
            builder.graph, step.device.handle, step.dtype, share_variables=step.model, **options
        )
        self._session = self.model.create_session()

    def __call__(self, *arrays: Any) -> dict[str, NDArray[Any]]:
        """Results ``y0``, ``y1``, ..., the loss and the metrics of one batch."""
        self.step.wait()
        feeds = self.step.feeds(arrays)
        self.step._check_labels(feeds)
        found: dict[str, NDArray[Any]] = self._session.run(feeds)
        return found

    def evaluate(self, batches: Any) -> dict[str, float]:
        """Means of the loss and the metrics over all samples of the batches."""
        sums = dict.fromkeys(self.names, 0.0)
        count = 0
        for batch in batches:
            arrays = batch if isinstance(batch, Sequence) else tuple(batch)
            size = len(arrays[0])
            found = self(*arrays)
            for name in self.names:
                sums[name] += float(found[name]) * size
            count += size
        if count == 0:
            raise ValueError("there is nothing to evaluate: the data set is empty")
        return {name: total / count for name, total in sums.items()}


__all__ = ["Evaluator", "LossFunction", "StepResult", "TrainStep"]
