"""Optimizers, fed the same gradients as PyTorch's, follow them for 100 steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dlk import _core, nn, optim, train
from dlk.nn.builder import GraphBuilder
from dlk.optim.optimizer import STEP_INPUT, Update

STEPS, BOUND = 100, 1e-5
SHAPES = {"w": (5, 7), "b": (5,), "scalar": (1,)}

Pair = tuple[Callable[[], optim.Optimizer], Callable[[list[torch.Tensor]], Any]]

PAIRS: dict[str, Pair] = {
    "sgd": (lambda: optim.SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (
        lambda: optim.SGD(0.1, momentum=0.9, weight_decay=1e-2),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-2),
    ),
    "nesterov": (
        lambda: optim.SGD(0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    ),
    "adam": (lambda: optim.Adam(1e-2), lambda p: torch.optim.Adam(p, 1e-2)),
    "adam_decay": (
        lambda: optim.Adam(1e-2, (0.8, 0.99), weight_decay=0.1),
        lambda p: torch.optim.Adam(p, 1e-2, (0.8, 0.99), weight_decay=0.1),
    ),
    "adamw": (
        lambda: optim.AdamW(1e-2, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
    ),
    "rmsprop": (lambda: optim.RMSProp(1e-2), lambda p: torch.optim.RMSprop(p, 1e-2)),
    "rmsprop_centred": (
        lambda: optim.RMSProp(1e-2, momentum=0.9, centered=True),
        lambda p: torch.optim.RMSprop(p, 1e-2, momentum=0.9, centered=True),
    ),
    "adagrad": (
        lambda: optim.Adagrad(0.1, lr_decay=0.01, initial_accumulator=0.1),
        lambda p: torch.optim.Adagrad(p, 0.1, lr_decay=0.01, initial_accumulator_value=0.1),
    ),
}


class Harness:
    """One model that applies an optimizer to gradients that come from outside."""

    def __init__(self, optimizer: optim.Optimizer, device: Any, start: dict[str, np.ndarray]):
        builder = GraphBuilder(trainable=True)
        updates = []
        for name, value in start.items():
            parameter = builder.variable(name, value.copy(), trainable=True)
            gradient = builder.input(f"g/{name}", value.shape)
            updates.append(Update(name, parameter, gradient))
        optimizer.apply(builder, updates)
        builder.output(builder.value_of(1.0, "float32") * 1.0, "done")
        self.optimizer, self.count = optimizer, 0
        self.model = _core.Model(builder.graph, device)
        self.session = self.model.create_session()

    def step(self, gradients: dict[str, np.ndarray]) -> None:
        feeds: dict[str, Any] = {f"g/{n}": g for n, g in gradients.items()}
        feeds[STEP_INPUT] = self.optimizer.numbers(self.count)
        self.session.run(feeds)
        self.count += 1

    def read(self, name: str) -> np.ndarray:
        value: np.ndarray = self.model.read_variable(name)
        return value


def _start() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}


def _gradients() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(4)
    return [
        {n: rng.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}
        for _ in range(STEPS)
    ]


def _error(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize("name", PAIRS)
def test_optimizer_follows_torch(device: Any, name: str) -> None:
    make, reference = PAIRS[name]
    start = _start()
    ours = Harness(make(), device, start)
    tensors = {n: torch.tensor(v, requires_grad=True) for n, v in start.items()}
    theirs = reference(list(tensors.values()))
    for gradients in _gradients():
        ours.step(gradients)
        for n, tensor in tensors.items():
            tensor.grad = torch.tensor(gradients[n])
        theirs.step()
    for n, tensor in tensors.items():
        assert _error(ours.read(n), tensor.detach().numpy()) < BOUND


def test_lion_follows_numpy(device: Any) -> None:
    start, (b1, b2), lr, decay = _start(), (0.9, 0.99), 1e-2, 0.1
    ours = Harness(optim.Lion(lr, (b1, b2), weight_decay=decay), device, start)
    p = {n: v.astype(np.float64) for n, v in start.items()}
    m = {n: np.zeros_like(v) for n, v in p.items()}
    for gradients in _gradients():
        ours.step(gradients)
        for n, g in gradients.items():
            p[n] *= 1 - lr * decay
            p[n] -= lr * np.sign(b1 * m[n] + (1 - b1) * g)
            m[n] = b2 * m[n] + (1 - b2) * g
    for n in p:
        assert _error(ours.read(n), p[n]) < BOUND


def test_custom_rule_in_python(device: Any) -> None:
    def rule(p: nn.Value, g: nn.Value, state: Any, lr: nn.Value) -> Any:
        v = state["v"] * 0.9 + g
        return p - v * lr, {"v": v}

    start = _start()
    custom = Harness(optim.Custom(rule, 0.1, state=("v",)), device, start)
    known = Harness(optim.SGD(0.1, momentum=0.9), device, start)
    for gradients in _gradients()[:20]:
        custom.step(gradients)
        known.step(gradients)
    for n in start:
        assert _error(custom.read(n), known.read(n)) < 1e-5


def test_clip_by_norm_follows_torch(device: Any) -> None:
    start = _start()
    ours = Harness(optim.SGD(0.1, clip_norm=1.0), device, start)
    tensors = {n: torch.tensor(v, requires_grad=True) for n, v in start.items()}
    theirs = torch.optim.SGD(tensors.values(), 0.1)
    for gradients in _gradients()[:20]:
        ours.step(gradients)
        for n, tensor in tensors.items():
            tensor.grad = torch.tensor(gradients[n])
        torch.nn.utils.clip_grad_norm_(tensors.values(), 1.0)
        theirs.step()
    for n, tensor in tensors.items():
        assert _error(ours.read(n), tensor.detach().numpy()) < BOUND


@pytest.mark.parametrize("scaled", [False, True])
def test_clip_by_value_follows_torch(device: Any, scaled: bool) -> None:
    """In a training step, too, where gradients are those of a scaled loss in mixed precision."""
    rng = np.random.default_rng(4)
    x, t = (rng.standard_normal((8, 5)).astype(np.float32) for _ in range(2))
    net = nn.Sequential(nn.Linear(5, 5))
    net.initialize(2)
    peer = torch.nn.Linear(5, 5)
    peer.load_state_dict(
        {n.removeprefix("0."): torch.tensor(p.value) for n, p in net.named_parameters()}
    )
    step = train.TrainStep(
        net, {"x": ("N", 5)}, {"t": (("N", 5), "float32")}, nn.losses.mse,
        optim.SGD(0.1, clip_value=0.02, clip_norm=0.05), device=device.caps["id"],
        dtype="float16" if scaled else "float32",
    )  # fmt: skip
    theirs = torch.optim.SGD(peer.parameters(), 0.1)
    for _ in range(5):
        step(x, t)
        theirs.zero_grad()
        torch.nn.functional.mse_loss(peer(torch.tensor(x)), torch.tensor(t)).backward()
        torch.nn.utils.clip_grad_value_(peer.parameters(), 0.02)
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 0.05)
        theirs.step()
    state = step.state_dict()
    for name, tensor in peer.named_parameters():
        error = _error(state[f"0.{name}"], tensor.detach().numpy())
        assert error < (2e-3 if scaled else BOUND)


def test_updates_work_in_place(device: Any) -> None:
    """No copy: a step of a few parameters is one dispatch."""
    ours = Harness(optim.Adam(1e-2), device, _start())
    feeds: dict[str, Any] = {f"g/{n}": g for n, g in _gradients()[0].items()}
    feeds[STEP_INPUT] = ours.optimizer.numbers(0)
    steps = ours.model.plan(feeds).steps
    assert [s.op for s in steps].count("OptimizerStep") == 1
    assert len(steps) <= 2, [s.op for s in steps]


@pytest.mark.parametrize("optimizer", [optim.SGD(0.1, momentum=0.9), optim.AdamW(1e-2)])
def test_many_tensors_are_updated_as_each_alone(device: Any, optimizer: optim.Optimizer) -> None:
    """Several dispatches of several tensors: the same bits as one node a tensor."""
    rng = np.random.default_rng(3)
    sizes = [1, 7, 64, 1023, 1024, 1025, 3000, 5, 129, 2, 8, 4096, 17]
    start = {f"t{i}": rng.standard_normal(n).astype(np.float32) for i, n in enumerate(sizes)}
    gradients = {n: rng.standard_normal(v.shape).astype(np.float32) for n, v in start.items()}
    together = Harness(optimizer, device, start)
    together.step(gradients)
    for name, value in start.items():
        alone = Harness(optimizer, device, {name: value})
        alone.step({name: gradients[name]})
        np.testing.assert_array_equal(together.read(name), alone.read(name))


@pytest.mark.parametrize("bad", [None, np.inf, -np.inf, np.nan])
def test_overflow_is_found_in_any_tensor(device: Any, bad: float | None) -> None:
    rng = np.random.default_rng(4)
    arrays = {f"x{i}": rng.standard_normal(n).astype(np.float32) for i, n in enumerate([3] * 10)}
    arrays["long"] = rng.standard_normal((41, 101)).astype(np.float32)
    graph = _core.Graph()
    inputs = [graph.add_input(n, "float32", list(a.shape)) for n, a in arrays.items()]
    (found,) = graph.add_node("Overflow", inputs, domain="dlk")
    graph.add_output(found, "found")
    session = _core.Model(graph, device).create_session()
    for name in ("x0", "x9", "long"):
        feeds = {n: a.copy() for n, a in arrays.items()}
        if bad is not None:
            feeds[name].flat[-1] = bad
        value = session.run(feeds)["found"]
        assert value.shape == (1,)
        assert np.isnan(value[0]) if bad is not None else value[0] == 0


def test_schedules() -> None:
    assert optim.steps(1.0, [10, 20])(15) == pytest.approx(0.1)
    assert optim.warm_up(1.0, 4)(1) == pytest.approx(0.5)
    assert optim.cosine(1.0, 100)(100) == pytest.approx(0.0)
    assert optim.cosine(1.0, 110, warmup=10)(60) == pytest.approx(0.5)
    parameter = torch.nn.Parameter(torch.zeros(1))
    reference = torch.optim.lr_scheduler.OneCycleLR(
        torch.optim.SGD([parameter], 0.1), max_lr=0.1, total_steps=50
    )
    ours = optim.one_cycle(0.1, 50)
    for step in range(50):
        assert ours(step) == pytest.approx(reference.get_last_lr()[0], rel=1e-6)
        reference.optimizer.step()
        if step < 49:
            reference.step()
