"""MobileNetV2 (width 1.0) as torchvision has it."""

from __future__ import annotations

from dlk import nn

# expansion, channels, blocks, stride of the first
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv_bn_relu(channels: int, out: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    padding = (kernel - 1) // 2
    conv = nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU6())


class _InvertedResidual(nn.Module):
    """Expand (1x1), filter each channel (3x3), project (1x1) without activation."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_conv_bn_relu(channels, hidden, 1, 1, 1))
        layers.append(_conv_bn_relu(hidden, hidden, 3, stride, hidden))
        layers += [nn.Conv2d(hidden, out, 1, bias=False), nn.BatchNorm2d(out)]
        self.conv = nn.Sequential(*layers)
        self._residual = stride == 1 and channels == out

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """(N, channels, H, W) to (N, out, H / stride, W / stride)."""
        (x,) = inputs
        y: nn.Value = self.conv(x)
        return x + y if self._residual else y


class MobileNetV2(nn.Module):
    """(N, 3, 224, 224) to (N, num_classes)."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_bn_relu(3, 32, 3, 2, 1)]
        channels = 32
        for expansion, out, count, stride in _STAGES:
            for index in range(count):
                block_stride = stride if index == 0 else 1
                layers.append(_InvertedResidual(channels, out, block_stride, expansion))
                channels = out
        layers.append(_conv_bn_relu(channels, 1280, 1, 1, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """Logits."""
        x = nn.global_avg_pool2d(self.features(*inputs))
        y: nn.Value = self.classifier(nn.flatten(x))
        return y
