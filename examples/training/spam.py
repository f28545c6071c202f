"""Spam, from the characters of a mail: a one-dimensional CNN."""

from __future__ import annotations

import numpy as np
from common import classification, finish, options
from dlk import data, nn, optim, train
from sources import mails

LENGTH, ALPHABET = 512, 96


def encode(texts: list[str]) -> np.ndarray:
    """The first characters of each mail's body and headers as (N, LENGTH) numbers."""
    codes = np.zeros((len(texts), LENGTH), np.float32)
    for row, text in enumerate(texts):
        raw = np.frombuffer(text[:LENGTH].encode("latin-1", "replace"), np.uint8).astype(np.int64)
        codes[row, : len(raw)] = np.where((raw >= 32) & (raw < 127), raw - 31, 0)
    return codes


class CharacterNet(nn.Module):
    """(N, LENGTH) character numbers to 2 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(ALPHABET, 16)
        self.conv1 = nn.Conv1d(16, 64, 7, stride=2, padding=3)
        self.conv2 = nn.Conv1d(64, 64, 5, stride=2, padding=2)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(64, 2)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """Logits."""
        (codes,) = inputs
        x = self.table(nn.arithmetic.cast(codes, "int32"))
        x = nn.relu(self.conv1(nn.transpose(x, (0, 2, 1))))
        x = nn.relu(self.conv2(x))
        x = nn.arithmetic.reduce_max(x, 2)
        y: nn.Value = self.last(self.drop(x))
        return y


def main() -> None:
    arguments = options("spam", 8, __doc__).parse_args()
    texts, labels = mails()
    order = np.random.default_rng(0).permutation(len(texts))
    codes, labels = encode(texts)[order], labels[order]
    cut = len(texts) * 4 // 5
    net = CharacterNet()
    net.initialize(arguments.seed)
    step = train.TrainStep(
        net, {"x": ("N", LENGTH)}, {"labels": (("N",), "int32")}, classification,
        optim.Adam(2e-3), device=arguments.device, seed=arguments.seed,
    )  # fmt: skip
    trainer = train.Trainer(
        step,
        data.DataLoader(data.Arrays(codes[:cut], labels[:cut]), 64, shuffle=True, seed=0),
        data.DataLoader(data.Arrays(codes[cut:], labels[cut:]), 256),
        folder=arguments.folder, monitor="validation/accuracy", largest=True,
    )  # fmt: skip
    finish(arguments, trainer, "validation/accuracy")


if __name__ == "__main__":
    main()
