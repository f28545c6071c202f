"""Residual networks as torchvision has them (version 1.5: a bottleneck's stride is in its 3x3)."""

from __future__ import annotations

import numpy as np

from dlk import nn


def _shortcut(channels: int, out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(
        nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
    )


def _last_norm(channels: int) -> nn.BatchNorm2d:
    """The last normalization of a branch begins small, so that fresh networks do not grow the
    activations by each block (Goyal et al., "Accurate, Large Minibatch SGD", 2017, begin at 0)."""
    norm = nn.BatchNorm2d(channels)
    norm.weight = nn.Parameter((channels,), lambda _, shape: np.full(shape, 0.5, np.float32))
    return norm


class _Basic(nn.Module):
    """Two 3x3 convolutions and the shortcut."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = _last_norm(width)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """(N, channels, H, W) to (N, width, H / stride, W / stride)."""
        (x,) = inputs
        y = nn.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nn.relu(y + (x if self.downsample is None else self.downsample(x)))


class _Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 (four times as wide), and the shortcut."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * 4, 1, bias=False)
        self.bn3 = _last_norm(width * 4)
        self.downsample = _shortcut(channels, width * 4, stride)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """(N, channels, H, W) to (N, 4 * width, H / stride, W / stride)."""
        (x,) = inputs
        y = nn.relu(self.bn1(self.conv1(x)))
        y = nn.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return nn.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """(N, 3, 224, 224) to (N, num_classes)."""

    def __init__(
        self, block: type[_Basic] | type[_Bottleneck], depths: tuple[int, ...], num_classes: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self._layers = []
        channels = 64
        for index, depth in enumerate(depths):
            width, stride, blocks = 64 << index, 1 if index == 0 else 2, []
            for number in range(depth):
                blocks.append(block(channels, width, stride if number == 0 else 1))
                channels = width * block.expansion
            layer = nn.Sequential(*blocks)
            self.add_module(f"layer{index + 1}", layer)
            self._layers.append(layer)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """Logits."""
        x = nn.relu(self.bn1(self.conv1(*inputs)))
        x = nn.max_pool2d(x, 3, 2, padding=1)
        for layer in self._layers:
            x = layer(x)
        y: nn.Value = self.fc(nn.flatten(nn.global_avg_pool2d(x)))
        return y


def resnet18(num_classes: int = 1000) -> ResNet:
    """18 weight layers."""
    return ResNet(_Basic, (2, 2, 2, 2), num_classes)


def resnet50(num_classes: int = 1000) -> ResNet:
    """50 weight layers."""
    return ResNet(_Bottleneck, (3, 4, 6, 3), num_classes)
