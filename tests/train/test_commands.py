"""`dlk train` and `dlk grad`."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import dlk
import numpy as np
import pytest
import torch
from dlk import nn

from ..python import command
from .common import images

CONFIG = """
[model]
input = [1, 28, 28]
{model}

[data]
format = "idx"
train = ["train-images.gz", "train-labels.gz"]
validation = ["test-images.gz", "test-labels.gz"]

[train]
epochs = {epochs}
batch_size = 16
optimizer = "Adam"
lr = 2e-3
folder = "run"
{more}
"""
LAYERS = """layers = [["Conv2d", 1, 4, 5], ["ReLU"], ["MaxPool2d", 2], ["Flatten"],
          ["Linear", 576, 10]]"""


def _write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, count, seed in (("train", 96, 0), ("test", 32, 1)):
        x, y = images(count, seed)
        _write_idx(tmp_path / f"{name}-images.gz", ((x[:, 0] + 3) * 36).clip(0, 255))
        _write_idx(tmp_path / f"{name}-labels.gz", y)
    return tmp_path


def _config(folder: Path, model: str = LAYERS, epochs: int = 3, more: str = "") -> Path:
    path = folder / "c.toml"
    path.write_text(CONFIG.format(model=model, epochs=epochs, more=more))
    return path


def _call(capsys: pytest.CaptureFixture[str], *words: Any) -> Any:
    return command.call(capsys, *words).json()


def test_train_export_and_resume(
    capsys: pytest.CaptureFixture[str], folder: Path, device_id: str
) -> None:
    words = ("--device", device_id, "--json")
    more = 'model = "out.onnx"\ncheckpoint_steps = 2\nrecompute = "auto"'
    path = _config(folder, more=more)
    answer = _call(capsys, "train", path, *words)
    assert answer["epochs"] == 3
    assert answer["loss"] < 2.3
    assert (folder / "run" / "last.ckpt").is_file()
    x, y = images(32, 1)
    pixels = (((x + 3) * 36).clip(0, 255).astype(np.uint8) / np.float32(255)).astype(np.float32)
    scores = dlk.load(folder / "out.onnx", device_id)(pixels)
    accuracy = float((np.argmax(scores, 1) == y).mean())
    assert accuracy == pytest.approx(answer["validation/accuracy"], abs=1e-6)
    _config(folder, epochs=4, more=more)
    again = _call(capsys, "train", path, "--resume", *words)
    assert again["epochs"] == 4
    assert again["epoch"] == 4


def test_train_from_a_file_a_zoo_network_and_weights(
    capsys: pytest.CaptureFixture[str], folder: Path, device_id: str
) -> None:
    words = ("--device", device_id, "--json")
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))
    net.initialize(3)
    graph = nn.build(net, {"x": ("N", 1, 28, 28)})
    dlk._core.save_dlk(graph, str(folder / "net.dlk"))
    state = {n: torch.tensor(v) for n, v in net.state_dict().items()}
    torch.save(state, folder / "net.pth")
    layers = 'layers = [["Flatten"], ["Linear", 784, 16], ["ReLU"], ["Linear", 16, 10]]'
    more = 'freeze = ["1."]'
    path = _config(folder, 'file = "net.dlk"', 1, more)
    first = _call(capsys, "train", path, *words)
    _config(folder, f'{layers}\nweights = "net.pth"', 1, more)
    second = _call(capsys, "train", path, *words)
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)
    _config(folder, 'network = "lenet"\nclasses = 10', 1)
    assert _call(capsys, "train", path, *words)["epochs"] == 1


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        (LAYERS, "speed = 3", "has no setting 'speed'"),
        ("", "", "needs one of 'layers', 'network' and 'file'"),
        ('layers = [["Lin", 3]]', "", "no layer 'Lin'"),
        ('network = "resnet1000"', "", "no network 'resnet1000'"),
        (LAYERS, 'recompute = "some"', "auto"),
    ],
)
def test_bad_configurations(
    capsys: pytest.CaptureFixture[str], folder: Path, model: str, more: str, message: str
) -> None:
    command.fails(command.call(capsys, "train", _config(folder, model, 1, more)), message)


def test_grad(capsys: pytest.CaptureFixture[str], tmp_path: Path, device_id: str) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    net.initialize(1)
    dlk._core.save_dlk(nn.build(net, {"x": ("N", 3)}), str(tmp_path / "n.dlk"))
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(s).astype(np.float32) for s in ((5, 3), (5, 2)))
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "dy.npz", y=dy)
    words = ["grad", tmp_path / "n.dlk", "--input", tmp_path / "x.npz", "--output",
             tmp_path / "g.npz", "--device", device_id, "--json"]  # fmt: skip
    answer = _call(capsys, *words, "--cotangent", tmp_path / "dy.npz")
    assert answer["gradients"]["0.weight"] == [4, 3]
    t = torch.nn
    peer = t.Sequential(t.Linear(3, 4), t.Tanh(), t.Linear(4, 2))
    peer.load_state_dict({n: torch.tensor(v) for n, v in net.state_dict().items()})
    given = torch.tensor(x, requires_grad=True)
    peer(given).backward(torch.tensor(dy))
    wanted = {"x": given.grad, **{n: p.grad for n, p in peer.named_parameters()}}
    with np.load(tmp_path / "g.npz") as found:
        assert set(wanted) == set(found)
        for name, gradient in wanted.items():
            assert gradient is not None
            np.testing.assert_allclose(found[name], gradient.numpy(), rtol=1e-4, atol=1e-6)
