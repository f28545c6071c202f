"""The networks of the zoo in plain PyTorch, with the parameter names of the published versions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def lenet(classes: int) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
            self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, classes)

        def forward(self, x: Tensor) -> Tensor:
            x = F.max_pool2d(self.conv1(x), 2)
            x = F.max_pool2d(self.conv2(x), 2)
            return self.fc2(F.relu(self.fc1(x.flatten(1))))

    return Net()


def _nin(layers: list[tuple[str, nn.Module]]) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, layer in layers:
                if isinstance(layer, nn.Conv2d):
                    self.add_module(name, layer)

        def forward(self, x: Tensor) -> Tensor:
            for _, layer in layers:
                x = F.relu(layer(x)) if isinstance(layer, nn.Conv2d) else layer(x)
            return x.mean((2, 3))

    return Net()


def nin_cifar10(classes: int) -> nn.Module:
    return _nin(
        [
            ("conv1", nn.Conv2d(3, 192, 5, padding=2)),
            ("cccp1", nn.Conv2d(192, 160, 1)),
            ("cccp2", nn.Conv2d(160, 96, 1)),
            ("pool1", nn.MaxPool2d(3, 2, ceil_mode=True)),
            ("conv2", nn.Conv2d(96, 192, 5, padding=2)),
            ("cccp3", nn.Conv2d(192, 192, 1)),
            ("cccp4", nn.Conv2d(192, 192, 1)),
            ("pool2", nn.AvgPool2d(3, 2, ceil_mode=True)),
            ("conv3", nn.Conv2d(192, 192, 3, padding=1)),
            ("cccp5", nn.Conv2d(192, 192, 1)),
            ("cccp6", nn.Conv2d(192, classes, 1)),
        ]
    )


def nin_imagenet(classes: int) -> nn.Module:
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return _nin(
        [
            ("conv1", nn.Conv2d(3, 96, 11, stride=4)),
            ("cccp1", nn.Conv2d(96, 96, 1)),
            ("cccp2", nn.Conv2d(96, 96, 1)),
            ("pool1", pool),
            ("conv2", nn.Conv2d(96, 256, 5, padding=2)),
            ("cccp3", nn.Conv2d(256, 256, 1)),
            ("cccp4", nn.Conv2d(256, 256, 1)),
            ("pool2", pool),
            ("conv3", nn.Conv2d(256, 384, 3, padding=1)),
            ("cccp5", nn.Conv2d(384, 384, 1)),
            ("cccp6", nn.Conv2d(384, 384, 1)),
            ("pool3", pool),
            ("conv4-1024", nn.Conv2d(384, 1024, 3, padding=1)),
            ("cccp7-1024", nn.Conv2d(1024, 1024, 1)),
            ("cccp8-1024", nn.Conv2d(1024, classes, 1)),
        ]
    )


class _Features(nn.Module):
    """features, a pooling to a fixed size, classifier."""

    def __init__(self, features: nn.Module, size: int, classifier: nn.Module) -> None:
        super().__init__()
        self.features, self.classifier, self.size = features, classifier, size

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), self.size)
        return self.classifier(x.flatten(1))


def alexnet(classes: int) -> nn.Module:
    features = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(),
        nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, classes),
    )  # fmt: skip
    return _Features(features, 6, classifier)


def vgg16(classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    classifier = nn.Sequential(
        nn.Linear(25088, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, classes),
    )  # fmt: skip
    return _Features(nn.Sequential(*layers), 7, classifier)


class _Fire(nn.Module):
    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


def squeezenet1_1(classes: int) -> nn.Module:
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    features = nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool,
        _Fire(64, 16, 64), _Fire(128, 16, 64), pool,
        _Fire(128, 32, 128), _Fire(256, 32, 128), pool,
        _Fire(256, 48, 192), _Fire(384, 48, 192), _Fire(384, 64, 256), _Fire(512, 64, 256),
    )  # fmt: skip

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = features
            final = nn.Conv2d(512, classes, 1)
            self.classifier = nn.Sequential(nn.Dropout(), final, nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return self.classifier(self.features(x)).mean((2, 3))

    return Net()


class _Residual(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, deep: bool) -> None:
        super().__init__()
        out = width * 4 if deep else width
        sizes = (1, 3, 1) if deep else (3, 3)
        widths = (channels, width, width, out) if deep else (channels, width, out)
        strides = (1, stride, 1) if deep else (stride, 1)
        self.count = len(sizes)
        for i, (kernel, step) in enumerate(zip(sizes, strides, strict=True)):
            conv = nn.Conv2d(widths[i], widths[i + 1], kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{i + 1}", conv)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))
        self.downsample = None
        if stride != 1 or channels != out:
            shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.count else y
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def _resnet(classes: int, depths: tuple[int, ...], deep: bool) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            channels = 64
            for i, depth in enumerate(depths):
                width, blocks = 64 * 2**i, []
                for j in range(depth):
                    stride = 2 if i and not j else 1
                    blocks.append(_Residual(channels, width, stride, deep))
                    channels = width * 4 if deep else width
                self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
            self.fc = nn.Linear(channels, classes)

        def forward(self, x: Tensor) -> Tensor:
            x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
            for i in range(1, 5):
                x = getattr(self, f"layer{i}")(x)
            return self.fc(x.mean((2, 3)))

    return Net()


def resnet18(classes: int) -> nn.Module:
    return _resnet(classes, (2, 2, 2, 2), False)


def resnet50(classes: int) -> nn.Module:
    return _resnet(classes, (3, 4, 6, 3), True)


class _MobileBlock(nn.Module):
    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers.append(_conv_bn(channels, hidden, 1, 1, 1))
        layers.append(_conv_bn(hidden, hidden, 3, stride, hidden))
        layers += [nn.Conv2d(hidden, out, 1, bias=False), nn.BatchNorm2d(out)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


def _conv_bn(channels: int, out: int, kernel: int, stride: int, groups: int) -> nn.Module:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU6())


def mobilenet_v2(classes: int) -> nn.Module:
    layers: list[nn.Module] = [_conv_bn(3, 32, 3, 2, 1)]
    channels = 32
    for t, c, n, s in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
        (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ]:  # fmt: skip
        for i in range(n):
            layers.append(_MobileBlock(channels, c, 1 if i else s, t))
            channels = c
    layers.append(_conv_bn(320, 1280, 1, 1, 1))
    classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))
    return _Features(nn.Sequential(*layers), 1, classifier)


class _SameConv(nn.Conv2d):
    """TensorFlow's padding: out = ceil(in / stride), the odd pixel at the end."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, kernel, stride in zip(
            reversed(x.shape[2:]), reversed(self.kernel_size), reversed(self.stride), strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


class _LiteBlock(nn.Module):
    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = _SameConv(channels, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, 1e-3)
        self._depthwise_conv = _SameConv(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self._bn1 = nn.BatchNorm2d(hidden, 1e-3)
        self._project_conv = _SameConv(hidden, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, 1e-3)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


def efficientnet_lite0(classes: int) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._conv_stem = _SameConv(3, 32, 3, 2, bias=False)
            self._bn0 = nn.BatchNorm2d(32, 1e-3)
            blocks = []
            channels = 32
            for n, k, s, e, c in [
                (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
                (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
            ]:  # fmt: skip
                for i in range(n):
                    blocks.append(_LiteBlock(channels, c, k, 1 if i else s, e))
                    channels = c
            self._blocks = nn.ModuleList(blocks)
            self._conv_head = _SameConv(320, 1280, 1, bias=False)
            self._bn1 = nn.BatchNorm2d(1280, 1e-3)
            self._fc = nn.Linear(1280, classes)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu6(self._bn0(self._conv_stem(x)))
            for block in self._blocks:
                x = block(x)
            x = F.relu6(self._bn1(self._conv_head(x)))
            return self._fc(x.mean((2, 3)))

    return Net()


class _InceptionConv(nn.Module):
    def __init__(self, channels: int, out: int, kernel: object, **options: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, bias=False, **options)  # type: ignore[arg-type]
        self.bn = nn.BatchNorm2d(out, 1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Inception(nn.Module):
    """Named convolutions in chains; "3x3_2a|3x3_2b" is a pair side by side; a chain that begins
    with "max" or "avg" pools first."""

    def __init__(
        self, convs: dict[str, tuple[int, int, object, dict[str, object]]], chains: list[str]
    ) -> None:
        super().__init__()
        self.chains = chains
        for name, (channels, out, kernel, options) in convs.items():
            self.add_module(f"branch{name}", _InceptionConv(channels, out, kernel, **options))

    def forward(self, x: Tensor) -> Tensor:
        results = []
        for chain in self.chains:
            y = x
            for step in chain.split():
                if step == "max":
                    y = F.max_pool2d(y, 3, 2)
                elif step == "avg":
                    y = F.avg_pool2d(y, 3, 1, 1)
                else:
                    y = torch.cat([getattr(self, f"branch{n}")(y) for n in step.split("|")], 1)
            results.append(y)
        return torch.cat(results, 1)


def inception_v3(classes: int) -> nn.Module:
    p1, wide, tall = {"padding": 1}, {"padding": (0, 3)}, {"padding": (3, 0)}
    none: dict[str, object] = {}

    def a(c: int, pool: int) -> nn.Module:
        return _Inception(
            {
                "1x1": (c, 64, 1, none),
                "5x5_1": (c, 48, 1, none),
                "5x5_2": (48, 64, 5, {"padding": 2}),
                "3x3dbl_1": (c, 64, 1, none),
                "3x3dbl_2": (64, 96, 3, p1),
                "3x3dbl_3": (96, 96, 3, p1),
                "_pool": (c, pool, 1, none),
            },
            ["1x1", "5x5_1 5x5_2", "3x3dbl_1 3x3dbl_2 3x3dbl_3", "avg _pool"],
        )

    def c7(w: int) -> nn.Module:
        return _Inception(
            {
                "1x1": (768, 192, 1, none),
                "7x7_1": (768, w, 1, none),
                "7x7_2": (w, w, (1, 7), wide),
                "7x7_3": (w, 192, (7, 1), tall),
                "7x7dbl_1": (768, w, 1, none),
                "7x7dbl_2": (w, w, (7, 1), tall),
                "7x7dbl_3": (w, w, (1, 7), wide),
                "7x7dbl_4": (w, w, (7, 1), tall),
                "7x7dbl_5": (w, 192, (1, 7), wide),
                "_pool": (768, 192, 1, none),
            },
            [
                "1x1",
                "7x7_1 7x7_2 7x7_3",
                "7x7dbl_1 7x7dbl_2 7x7dbl_3 7x7dbl_4 7x7dbl_5",
                "avg _pool",
            ],
        )

    def e(c: int) -> nn.Module:
        across: dict[str, object] = {"padding": (0, 1)}
        down: dict[str, object] = {"padding": (1, 0)}
        return _Inception(
            {
                "1x1": (c, 320, 1, none),
                "3x3_1": (c, 384, 1, none),
                "3x3_2a": (384, 384, (1, 3), across),
                "3x3_2b": (384, 384, (3, 1), down),
                "3x3dbl_1": (c, 448, 1, none),
                "3x3dbl_2": (448, 384, 3, p1),
                "3x3dbl_3a": (384, 384, (1, 3), across),
                "3x3dbl_3b": (384, 384, (3, 1), down),
                "_pool": (c, 192, 1, none),
            },
            ["1x1", "3x3_1 3x3_2a|3x3_2b", "3x3dbl_1 3x3dbl_2 3x3dbl_3a|3x3dbl_3b", "avg _pool"],
        )

    s2: dict[str, object] = {"stride": 2}
    b = _Inception(
        {
            "3x3": (288, 384, 3, s2),
            "3x3dbl_1": (288, 64, 1, none),
            "3x3dbl_2": (64, 96, 3, p1),
            "3x3dbl_3": (96, 96, 3, s2),
        },
        ["3x3", "3x3dbl_1 3x3dbl_2 3x3dbl_3", "max"],
    )
    d = _Inception(
        {
            "3x3_1": (768, 192, 1, none),
            "3x3_2": (192, 320, 3, s2),
            "7x7x3_1": (768, 192, 1, none),
            "7x7x3_2": (192, 192, (1, 7), wide),
            "7x7x3_3": (192, 192, (7, 1), tall),
            "7x7x3_4": (192, 192, 3, s2),
        },
        ["3x3_1 3x3_2", "7x7x3_1 7x7x3_2 7x7x3_3 7x7x3_4", "max"],
    )
    net = nn.Sequential()
    for name, part in {
        "Conv2d_1a_3x3": _InceptionConv(3, 32, 3, stride=2),
        "Conv2d_2a_3x3": _InceptionConv(32, 32, 3),
        "Conv2d_2b_3x3": _InceptionConv(32, 64, 3, padding=1),
        "pool1": nn.MaxPool2d(3, 2),
        "Conv2d_3b_1x1": _InceptionConv(64, 80, 1),
        "Conv2d_4a_3x3": _InceptionConv(80, 192, 3),
        "pool2": nn.MaxPool2d(3, 2),
        "Mixed_5b": a(192, 32),
        "Mixed_5c": a(256, 64),
        "Mixed_5d": a(288, 64),
        "Mixed_6a": b,
        "Mixed_6b": c7(128),
        "Mixed_6c": c7(160),
        "Mixed_6d": c7(160),
        "Mixed_6e": c7(192),
        "Mixed_7a": d,
        "Mixed_7b": e(1280),
        "Mixed_7c": e(2048),
        "pool3": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "fc": nn.Linear(2048, classes),
    }.items():
        net.add_module(name, part)
    return net


TWINS: dict[str, Callable[[int], nn.Module]] = {
    "alexnet": alexnet,
    "efficientnet_lite0": efficientnet_lite0,
    "inception_v3": inception_v3,
    "lenet": lenet,
    "mobilenet_v2": mobilenet_v2,
    "nin_cifar10": nin_cifar10,
    "nin_imagenet": nin_imagenet,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "squeezenet1_1": squeezenet1_1,
    "vgg16": vgg16,
}
