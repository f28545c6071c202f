"""EfficientNet-Lite0: EfficientNet without squeeze-and-excitation, with ReLU6, and with a stem and
a head that do not scale. Padding is TensorFlow's SAME. Names are those of the PyTorch port."""

from __future__ import annotations

from dlk import nn

# blocks, kernel, stride of the first, expansion, channels
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, stride, "same", groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class _Block(nn.Module):
    """Mobile inverted bottleneck."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self._expands = expansion != 1
        if self._expands:
            self._expand_conv = _conv(channels, hidden, 1)
            self._bn0 = _norm(hidden)
        self._depthwise_conv = _conv(hidden, hidden, kernel, stride, hidden)
        self._bn1 = _norm(hidden)
        self._project_conv = _conv(hidden, out, 1)
        self._bn2 = _norm(out)
        self._residual = stride == 1 and channels == out

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """(N, channels, H, W) to (N, out, H / stride, W / stride)."""
        (x,) = inputs
        y = nn.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        y = nn.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return nn.add(x, y) if self._residual else y


class EfficientNetLite0(nn.Module):
    """(N, 3, 224, 224) to (N, num_classes)."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self._conv_stem = _conv(3, 32, 3, 2)
        self._bn0 = _norm(32)
        blocks: list[nn.Module] = []
        channels = 32
        for count, kernel, stride, expansion, out in _STAGES:
            for index in range(count):
                block_stride = stride if index == 0 else 1
                blocks.append(_Block(channels, out, kernel, block_stride, expansion))
                channels = out
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = _conv(channels, 1280, 1)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, num_classes)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """Logits."""
        x = nn.relu6(self._bn0(self._conv_stem(*inputs)))
        x = nn.relu6(self._bn1(self._conv_head(self._blocks(x))))
        y: nn.Value = self._fc(nn.flatten(nn.global_avg_pool2d(x)))
        return y
