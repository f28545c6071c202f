"""What a step takes, and less of it: recomputation, budgets; networks from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dlk
import numpy as np
import pytest
from dlk import nn, optim, train, zoo

from .common import classifier_loss


class Block(nn.Module):
    """A residual block with batch normalization and dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.drop = nn.Dropout(0.2)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        (x,) = inputs
        y: nn.Value = self.b(self.drop(nn.relu(self.norm(self.a(x)))))
        return nn.relu(x + y)


def _network(depth: int = 6) -> nn.Sequential:
    blocks = {f"block{i}": Block(8) for i in range(depth)}
    net = nn.Sequential(
        stem=nn.Conv2d(1, 8, 3, padding=1), **blocks, flat=nn.Flatten(), head=nn.Linear(1152, 10)
    )
    net.initialize(0)
    return net


def _step(device_id: str, **options: Any) -> train.TrainStep:
    return train.TrainStep(
        _network(), {"x": ("N", 1, 12, 12)}, {"labels": (("N",), "int32")}, classifier_loss,
        optim.SGD(0.02, momentum=0.9), device=device_id, seed=4, **options,
    )  # fmt: skip


def _batch(count: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((count, 1, 12, 12)).astype(np.float32)
    return x, rng.integers(0, 10, count).astype(np.int32)


BLOCKS = [f"block{i}" for i in range(5)]


@pytest.mark.parametrize("recompute", ["auto", BLOCKS], ids=["auto", "blocks"])
def test_recomputation_gives_the_same_training(device_id: str, recompute: Any) -> None:
    whole, thrifty = _step(device_id), _step(device_id, recompute=recompute)
    batch = _batch()
    for _ in range(4):
        assert thrifty(*batch).loss == pytest.approx(whole(*batch).loss, rel=1e-6)
    expected = whole.state_dict()
    for name, value in thrifty.state_dict().items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7, err_msg=name)
    assert thrifty.memory(*batch).arena_bytes < 0.7 * whole.memory(*batch).arena_bytes


def test_a_budget_is_kept_with_as_little_work_as_needed(device_id: str) -> None:
    batch = _batch(32)
    whole = _step(device_id)
    least = _step(device_id, recompute="auto")
    most, fewest = whole.memory(*batch).arena_bytes, least.memory(*batch).arena_bytes
    budget = (most + fewest) // 2
    between = _step(device_id, memory_budget=budget, sizes={"N": 32})
    assert between.memory(*batch).arena_bytes <= budget
    nodes = [len(s.model.graph.nodes) for s in (whole, between, least)]
    assert nodes[0] < nodes[1] <= nodes[2]
    free = _step(device_id, memory_budget=2 * most, sizes={"N": 32})
    assert len(free.model.graph.nodes) == nodes[0]
    with pytest.raises(MemoryError, match="memory_budget is 1000"):
        _step(device_id, memory_budget=1000, sizes={"N": 32})


def test_recomputation_of_recurrent_and_gathered_steps(device_id: str) -> None:
    def make(**options: Any) -> train.TrainStep:
        net = _Reader()
        net.initialize(2)
        return train.TrainStep(
            net, {"x": ("N", 5, 3)}, {"t": (("N", 4), "float32")},
            lambda y, t: nn.losses.mse(y, t), optim.Adam(1e-2), device=device_id, accumulate=2,
            **options,
        )  # fmt: skip

    rng = np.random.default_rng(3)
    x = rng.standard_normal((6, 5, 3)).astype(np.float32)
    t = rng.standard_normal((6, 4)).astype(np.float32)
    whole, thrifty = make(), make(recompute="auto")
    for _ in range(4):
        assert thrifty(x, t).loss == pytest.approx(whole(x, t).loss, rel=1e-6)


class _Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 8, batch_first=True), nn.Linear(8, 4)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        y, _, _ = self.lstm(inputs[0])
        result: nn.Value = self.head(nn.arithmetic.reduce_mean(y, 1))
        return result


def test_bad_wishes(device_id: str) -> None:
    with pytest.raises(ValueError, match="no part 'blockk'"):
        _step(device_id, recompute=["blockk"])
    with pytest.raises(ValueError, match="auto"):
        _step(device_id, recompute="some")
    with pytest.raises(ValueError, match="exclude"):
        _step(device_id, recompute="auto", memory_budget=1)
    with pytest.raises(ValueError, match="needs the size of 'N'"):
        _step(device_id, memory_budget=1000)
    with pytest.raises(ValueError, match="at least 1"):
        _step(device_id, memory_budget=0)


def test_bad_segments() -> None:
    graph = dlk._core.Graph()
    x = graph.add_input("x", "float32", [3])
    (y,) = graph.add_node("Exp", [x])
    graph.add_output(y)
    for segments in ([(0, 2)], [(0, 1), (0, 1)], [(1, 0)]):
        with pytest.raises(ValueError, match="recompute: the segment"):
            graph.recompute(1, segments)
    with pytest.raises(ValueError, match="there is no node 7"):
        graph.recompute(7, [])


# Networks from files -----------------------------------------------------------------------------


def _losses(net: nn.Module, device_id: str, steps: int = 3) -> list[float]:
    step = train.TrainStep(
        net, {"image": ("N", 3, 32, 32)}, {"labels": (("N",), "int32")},
        classifier_loss, optim.SGD(0.05), device=device_id,
    )  # fmt: skip
    rng = np.random.default_rng(5)
    x = rng.standard_normal((4, 3, 32, 32)).astype(np.float32)
    y = rng.integers(0, 10, 4).astype(np.int32)
    return [step(x, y).loss for _ in range(steps)]


@pytest.mark.parametrize("name", ["resnet18", "nin_cifar10"])
def test_a_file_trains_as_its_module_does(device_id: str, name: str, tmp_path: Path) -> None:
    module = zoo.module(name, 10)
    module.initialize(1)
    graph = nn.build(module, {"image": ("N", 3, 32, 32)}, ["logits"])
    path = tmp_path / "net.dlk"
    dlk._core.save_dlk(graph, str(path))
    net = nn.Imported(dlk._core.load_dlk(str(path)))
    assert net.parameter_count() == module.parameter_count()
    np.testing.assert_allclose(_losses(net, device_id), _losses(module, device_id), rtol=1e-5)


def test_a_hidden_value_as_the_result(device_id: str) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    module.initialize(0)
    graph = nn.build(module, {"x": ("N", 3)})
    hidden = next(n for n in graph.nodes if n.op == "Relu")
    body = nn.Imported(graph, [hidden.name])
    assert sorted(dict(body.named_parameters())) == ["0.bias", "0.weight"]
    net = nn.Sequential(body=body, head=nn.Linear(4, 5))
    dict(net.named_parameters())["head.weight"].initialize("head.weight", 0)
    net._children["head"].initialize(0)
    x = np.ones((2, 3), np.float32)
    got = dlk.load(nn.build(net, {"x": ("N", 3)}), device_id)(x)
    assert got.shape == (2, 5)
    with pytest.raises(ValueError, match="no value 'nothing'"):
        nn.Imported(graph, ["nothing"])


# Weights from a provider -------------------------------------------------------------------------


def _parts() -> list[nn.Module]:
    return [
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Dropout(0.3)),
        Block(8),
        nn.Sequential(nn.Flatten(), nn.Linear(1152, 10)),
    ]


def _loss(y: nn.Value, labels: nn.Value) -> nn.Value:
    return nn.losses.cross_entropy(y, labels)


def _layerwise(
    device_id: str, folder: Path, parts: list[nn.Module], **clipping: float
) -> train.LayerwiseStep:
    return train.LayerwiseStep(
        parts, ("N", 1, 12, 12), {"labels": (("N",), "int32")}, _loss,
        optim.SGD(0.05, momentum=0.9, **clipping), train.FolderWeights(folder), device=device_id,
    )  # fmt: skip


@pytest.mark.parametrize(
    "clipping", [{}, {"clip_norm": 0.5}, {"clip_value": 0.01}], ids=["free", "norm", "value"]
)
def test_layer_by_layer_from_files(
    device_id: str, tmp_path: Path, clipping: dict[str, float]
) -> None:
    """As the whole network at once; the dropout's masks differ, so it is off in the comparison."""
    parts = _parts()
    for part in parts:
        part.initialize(7)
    for part in (parts[0]._children["2"], parts[1].drop):
        part.p = 0.0
    net = nn.Sequential(*parts)
    whole = train.TrainStep(
        net, {"x": ("N", 1, 12, 12)}, {"labels": (("N",), "int32")}, _loss,
        optim.SGD(0.05, momentum=0.9, **clipping), device=device_id,
    )  # fmt: skip
    step = _layerwise(device_id, tmp_path / "w", parts, **clipping)
    batch = _batch()
    for _ in range(3):
        assert step(*batch) == pytest.approx(whole(*batch).loss, rel=1e-5)
    weights = step.provider
    assert isinstance(weights, train.FolderWeights)
    assert weights.loaded_bytes == 0
    for name, value in whole.state_dict().items():
        got = weights.load(name)
        np.testing.assert_allclose(got, value, rtol=1e-4, atol=1e-6, err_msg=name)
    weights.checkpoint(tmp_path / "kept")
    again = _layerwise(device_id, tmp_path / "kept", parts, **clipping)
    again.steps = step.steps
    assert again(*batch) == step(*batch)
    with pytest.raises(FileExistsError, match="exists already"):
        weights.checkpoint(tmp_path / "kept")


def test_layer_by_layer_with_dropout_and_bad_input(device_id: str, tmp_path: Path) -> None:
    step = _layerwise(device_id, tmp_path, _parts())
    x, y = _batch()
    losses = [step(x, y) for _ in range(6)]
    assert losses[-1] < losses[0]
    before = step.provider.load("2.1.weight").copy()
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        step(x * np.nan, y)
    assert np.array_equal(step.provider.load("2.1.weight"), before)
    with pytest.raises(ValueError, match="takes x, labels"):
        step(x)
    with pytest.raises(KeyError, match="no weight 'x'"):
        step.provider.load("x")


def test_damaged_weights(tmp_path: Path) -> None:
    weights = train.FolderWeights(tmp_path)
    weights.update("a/b", np.arange(3.0))
    weights.purge("a/b")
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="is damaged"):
        weights.load("a/b")
