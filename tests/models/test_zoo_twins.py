"""Every network of the zoo, with random weights and statistics, against its twin in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from dlk import zoo

from .common import relative_error, run
from .twins import TWINS

# Small images where the network permits; the fully connected layers of AlexNet and VGG fix theirs.
SIZES = {
    "alexnet": 224,
    "efficientnet_lite0": 64,
    "inception_v3": 107,
    "lenet": 28,
    "mobilenet_v2": 64,
    "nin_cifar10": 32,
    "nin_imagenet": 99,
    "resnet18": 64,
    "resnet50": 64,
    "squeezenet1_1": 75,
    "vgg16": 224,
}
CLASSES = 10
LARGE = ("alexnet", "vgg16")  # tested in float32 alone: half a gigabyte of weights takes its time


def randomize(twin: torch.nn.Module, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state with biases and statistics away from their trivial values, put into the twin."""
    rng = np.random.default_rng(5)
    values = {}
    for name, array in state.items():
        noise = rng.standard_normal(array.shape, np.float32) if array.ndim == 1 else None
        if noise is None:
            values[name] = array
        elif name.endswith("running_var"):
            values[name] = (1 + 0.2 * np.abs(noise)).astype(np.float32)
        else:
            values[name] = (array + 0.1 * noise).astype(np.float32)
    tensors = {name: torch.from_numpy(array) for name, array in values.items()}
    missing, unexpected = twin.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return values


def test_every_network_has_a_twin() -> None:
    assert set(TWINS) == set(SIZES) == set(zoo.names())


def twin_errors(name: str, device: Any) -> dict[str, float]:
    """Relative error against PyTorch by storage type (float32 alone for the large networks)."""
    entry, size = zoo.network(name), SIZES[name]
    torch.set_num_threads(2)
    net = zoo.module(name, CLASSES)
    net.initialize(seed=3)
    twin = TWINS[name](CLASSES).eval()
    state = randomize(twin, net.state_dict())
    graph = zoo.build(name, weights=state, num_classes=CLASSES, image_size=size)
    x = np.random.default_rng(1).standard_normal((1, entry.channels, size, size), np.float32)
    with torch.no_grad():
        expected = twin(torch.from_numpy(x)).numpy()
    dtypes = ("float32",) if name in LARGE else ("float32", "float16")
    return {
        dtype: relative_error(run(graph, device, {"image": x}, dtype=dtype)["logits"], expected)
        for dtype in dtypes
    }


@pytest.mark.parametrize("name", sorted(TWINS))
def test_twin(name: str, device: Any) -> None:
    errors = twin_errors(name, device)
    assert errors["float32"] < 1e-4
    assert errors.get("float16", 0.0) < 2e-2


def test_random_weights_depend_on_the_seed_alone() -> None:
    values = []
    for seed in (0, 0, 1):
        graph = zoo.build("lenet", weights="random", seed=seed)
        number = graph.find("conv2.weight")
        assert number is not None
        values.append(np.array(graph.value(number).data))
    np.testing.assert_array_equal(values[0], values[1])
    assert np.abs(values[0] - values[2]).max() > 0.1


def test_wrong_requests_are_explained() -> None:
    with pytest.raises(ValueError, match=r"no network 'vgg99'; it has alexnet"):
        zoo.build("vgg99")
    with pytest.raises(ValueError, match="no pretrained weights"):
        zoo.build("resnet18")
    with pytest.raises(ValueError, match="for 1000 classes, not 5"):
        zoo.build("mobilenet_v2", num_classes=5)
    with pytest.raises(ValueError, match="missing conv1"):
        zoo.build("lenet", weights={"fc1.weight": np.zeros((500, 800), np.float32)})
    with pytest.raises(ValueError, match="choose another image size"):
        zoo.build("alexnet", weights="random", image_size=160)


def test_weights_from_a_file(tmp_path: Any) -> None:
    twin = TWINS["lenet"](10)
    torch.save(twin.state_dict(), tmp_path / "lenet.pth")
    graph = zoo.build("lenet", weights=tmp_path / "lenet.pth")
    number = graph.find("fc2.bias")
    assert number is not None
    np.testing.assert_array_equal(graph.value(number).data, twin.fc2.bias.detach().numpy())
    assert graph.info.labels == tuple("0123456789")


def test_trainable_parameters_are_variables() -> None:
    graph = zoo.build("resnet18", weights="random", num_classes=3, trainable=True, image_size=32)
    kinds = {v.name: (v.kind, v.trainable) for v in graph.values if v.kind != "result"}
    assert kinds["conv1.weight"] == ("variable", True)
    assert kinds["bn1.running_mean"] == ("variable", False)
    assert graph.info.labels == ()
