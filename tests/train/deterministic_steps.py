"""Steps of a network with every kind of layer, twice from the same seed.

A program, because kernels are chosen once for a process: ``python -m
tests.train.deterministic_steps DEVICE``, as it is, or with ``DLK_KERNEL_SHAPES=gpu`` on a CPU
driver.
Prints each variable whose bits differ; ends with the hash of all bits.
"""

from __future__ import annotations

import hashlib
import sys

import numpy as np
from dlk import nn, optim, train

WORDS, LENGTH = 40, 24


class EveryLayer(nn.Module):
    """(N, 3, 16, 16) pixels and (N, LENGTH) words to 5 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.batch_norm = nn.BatchNorm2d(16)
        self.strided = nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=2)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.up = nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1)
        self.group_norm = nn.GroupNorm(4, 16)
        self.pointwise = nn.Conv2d(16, 16, 1)
        self.table = nn.Embedding(WORDS, 16)
        self.lstm = nn.LSTM(16, 16, bidirectional=True)
        self.gru = nn.GRU(32, 16)
        self.norm = nn.LayerNorm(16)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(32 + 16 * LENGTH, 5)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """Logits."""
        x, words = inputs
        x = nn.relu(self.batch_norm(self.conv(x)))
        x = nn.max_pool2d(self.depthwise(nn.silu(self.strided(x))), 3, 1, 1)
        x = self.group_norm(self.up(x))
        x = nn.fold(nn.unfold(x, 3, padding=1), (16, 16), 3, padding=1)
        x = nn.avg_pool2d(nn.local_response_norm(self.pointwise(x), 5), 2)
        pooled = [nn.arithmetic.reduce_max(x, (2, 3)), nn.arithmetic.reduce_mean(x, (2, 3))]
        y = self.table(nn.arithmetic.cast(words, "int32"))
        y, *_ = self.lstm(nn.transpose(y, (1, 0, 2)))
        y, *_ = self.gru(y)
        y = self.norm(nn.transpose(y, (1, 0, 2)))
        y = nn.matmul(nn.softmax(nn.matmul(y, nn.transpose(y, (0, 2, 1)))), y)
        result: nn.Value = self.last(self.drop(nn.concat([*pooled, nn.flatten(y)], 1)))
        return result


def bits(device_id: str, dtype: str) -> dict[str, bytes]:
    """All variables after four steps, and the last loss."""
    net = EveryLayer()
    net.initialize(0)
    step = train.TrainStep(
        net, {"x": ("N", 3, 16, 16), "words": ("N", LENGTH)}, {"labels": (("N",), "int32")},
        lambda y, labels: nn.losses.cross_entropy(y, labels),
        optim.AdamW(1e-3, weight_decay=1e-2, clip_norm=1.0),
        device=device_id, dtype=dtype, seed=3, accumulate=2, ema=0.9,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(4):
        x = rng.standard_normal((6, 3, 16, 16)).astype(np.float32)
        words = rng.integers(0, WORDS // 4, (6, LENGTH)).astype(np.float32)
        result = step(x, words, rng.integers(0, 5, 6).astype(np.int32))
    state = {name: value.tobytes() for name, value in step.state_dict().items()}
    return state | {"loss": np.float64(result.loss).tobytes()}


def main(device_id: str) -> None:
    from dlk import _core

    digest = hashlib.sha256()
    for dtype in ("float32", "float16"):
        if dtype == "float16" and not _core.open_device(device_id).caps["fp16_storage"]:
            continue
        first, second = bits(device_id, dtype), bits(device_id, dtype)
        assert len(first) > 50
        for name, value in first.items():
            digest.update(value)
            if second[name] != value:
                print(f"DIFFERENT {dtype} {name}")
    print(digest.hexdigest())


if __name__ == "__main__":
    main(sys.argv[1])
