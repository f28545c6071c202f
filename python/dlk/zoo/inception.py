"""Inception-v3 as torchvision has it, without the auxiliary classifier of training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dlk import nn
from dlk.nn.functional import IntPair

_MIXED = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")


class _Conv(nn.Module):
    """Convolution, batch normalization, ReLU."""

    def __init__(
        self, channels: int, out: int, kernel: IntPair, stride: int = 1, padding: IntPair = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """(N, channels, H, W) to (N, out, H', W')."""
        return nn.relu(self.bn(self.conv(*inputs)))


class _A(nn.Module):
    """1x1, 5x5, double 3x3 and pooling side by side."""

    def __init__(self, channels: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(channels, 64, 1)
        self.branch5x5_1 = _Conv(channels, 48, 1)
        self.branch5x5_2 = _Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Conv(channels, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, padding=1)
        self.branch_pool = _Conv(channels, pool, 1)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """(N, channels, H, W) to (N, 224 + pool, H, W)."""
        (x,) = inputs
        b5 = self.branch5x5_2(self.branch5x5_1(x))
        b3 = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        pooled = self.branch_pool(nn.avg_pool2d(x, 3, 1, 1))
        return nn.concat([self.branch1x1(x), b5, b3, pooled])


class _B(nn.Module):
    """Halves the size: 3x3, double 3x3 and pooling."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = _Conv(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Conv(channels, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, stride=2)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """(N, channels, H, W) to (N, channels + 480, H / 2, W / 2)."""
        (x,) = inputs
        b3 = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return nn.concat([self.branch3x3(x), b3, nn.max_pool2d(x, 3, 2)])


class _C(nn.Module):
    """7x7 convolutions, factorized into 1x7 and 7x1."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(channels, 192, 1)
        self.branch7x7_1 = _Conv(channels, width, 1)
        self.branch7x7_2 = _Conv(width, width, (1, 7), padding=(0, 3))
        self.branch7x7_3 = _Conv(width, 192, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = _Conv(channels, width, 1)
        self.branch7x7dbl_2 = _Conv(width, width, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = _Conv(width, width, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = _Conv(width, width, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = _Conv(width, 192, (1, 7), padding=(0, 3))
        self.branch_pool = _Conv(channels, 192, 1)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """(N, channels, H, W) to (N, 768, H, W)."""
        (x,) = inputs
        b7 = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        dbl = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        dbl = self.branch7x7dbl_5(self.branch7x7dbl_4(dbl))
        pooled = self.branch_pool(nn.avg_pool2d(x, 3, 1, 1))
        return nn.concat([self.branch1x1(x), b7, dbl, pooled])


class _D(nn.Module):
    """Halves the size: 3x3, 7x7 and pooling."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = _Conv(channels, 192, 1)
        self.branch3x3_2 = _Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Conv(channels, 192, 1)
        self.branch7x7x3_2 = _Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = _Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = _Conv(192, 192, 3, stride=2)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """(N, channels, H, W) to (N, channels + 512, H / 2, W / 2)."""
        (x,) = inputs
        b3 = self.branch3x3_2(self.branch3x3_1(x))
        b7 = self.branch7x7x3_2(self.branch7x7x3_1(x))
        b7 = self.branch7x7x3_4(self.branch7x7x3_3(b7))
        return nn.concat([b3, b7, nn.max_pool2d(x, 3, 2)])


class _E(nn.Module):
    """3x3 convolutions split into 1x3 and 3x1 side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(channels, 320, 1)
        self.branch3x3_1 = _Conv(channels, 384, 1)
        self.branch3x3_2a = _Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = _Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = _Conv(channels, 448, 1)
        self.branch3x3dbl_2 = _Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = _Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = _Conv(channels, 192, 1)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """(N, channels, H, W) to (N, 2048, H, W)."""
        (x,) = inputs
        b3 = self.branch3x3_1(x)
        dbl = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return nn.concat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(b3),
                self.branch3x3_2b(b3),
                self.branch3x3dbl_3a(dbl),
                self.branch3x3dbl_3b(dbl),
                self.branch_pool(nn.avg_pool2d(x, 3, 1, 1)),
            ]
        )


class InceptionV3(nn.Module):
    """(N, 3, 299, 299) to (N, num_classes)."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self._mixed: list[nn.Module] = [
            _A(192, 32), _A(256, 64), _A(288, 64), _B(288),
            _C(768, 128), _C(768, 160), _C(768, 160), _C(768, 192), _D(768),
            _E(1280), _E(2048),
        ]  # fmt: skip
        for name, block in zip(_MIXED, self._mixed, strict=True):
            self.add_module(f"Mixed_{name}", block)
        self.fc = nn.Linear(2048, num_classes)

    def load_state_dict(self, state: Mapping[str, np.ndarray], *, strict: bool = True) -> None:
        """As every module; the auxiliary classifier of a full state dict is left out."""
        kept = {k: v for k, v in state.items() if not k.startswith("AuxLogits.")}
        super().load_state_dict(kept, strict=strict)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """Logits."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(*inputs)))
        x = nn.max_pool2d(x, 3, 2)
        x = nn.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        for block in self._mixed:
            x = block(x)
        y: nn.Value = self.fc(nn.flatten(nn.global_avg_pool2d(x)))
        return y
