"""Spam, from the characters of a mail: a one-dimensional CNN."""

from __future__ import annotations

import re

import numpy as np
from common import classification, finish, options
from dlk import data, nn, optim, train
from sources import mails

LENGTH, ALPHABET = 1024, 96
ROUTE = re.compile(
    r"(from |received|delivered-to|return-path|message-id|date|in-reply-to|references|sender|"
    r"errors-to|precedence|list-|x-authentication|x-beenthere|x-mailman|x-original|x-spam)",
    re.IGNORECASE,
)
"""Header lines that say by which way and when a mail came: they tell collections apart."""


def readable(mail: str) -> str:
    """What a mail says of itself (From, To, Subject, its format), then its text."""
    head, _, body = mail.partition("\n\n")
    lines = re.sub(r"\n[ \t]+", " ", head).split("\n")
    kept = [line for line in lines if not ROUTE.match(line)]
    return "\n".join(kept) + "\n\n" + re.sub(r"[ \t]+", " ", body)


def encode(texts: list[str]) -> np.ndarray:
    """The first characters of each text as (N, LENGTH) numbers."""
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
        self.conv2 = nn.Conv1d(64, 128, 5, stride=2, padding=2)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(256, 2)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """Logits."""
        (codes,) = inputs
        x = self.table(nn.arithmetic.cast(codes, "int32"))
        x = nn.relu(self.conv1(nn.transpose(x, (0, 2, 1))))
        x = nn.relu(self.conv2(x))
        found = [nn.arithmetic.reduce_max(x, 2), nn.arithmetic.reduce_mean(x, 2)]
        y: nn.Value = self.last(self.drop(nn.concat(found, 1)))
        return y


def main() -> None:
    """Learns from 70 mails of 100, stops where 10 others are known best, is tested on the rest."""
    arguments = options("spam", 10, __doc__).parse_args()
    texts, labels = mails()
    order = np.random.default_rng(0).permutation(len(texts))
    codes, labels = encode([readable(text) for text in texts])[order], labels[order]
    learnt, known = len(texts) * 7 // 10, len(texts) * 8 // 10
    net = CharacterNet()
    net.initialize(arguments.seed)
    loader = data.DataLoader(
        data.Arrays(codes[:learnt], labels[:learnt]), 64, shuffle=True, seed=arguments.seed
    )
    schedule = optim.one_cycle(4e-3, arguments.epochs * len(loader))
    step = train.TrainStep(
        net, {"x": ("N", LENGTH)}, {"labels": (("N",), "int32")}, classification,
        optim.AdamW(schedule, weight_decay=1e-2), device=arguments.device, seed=arguments.seed,
    )  # fmt: skip
    trainer = train.Trainer(
        step, loader, data.DataLoader(data.Arrays(codes[learnt:known], labels[learnt:known]), 256),
        folder=arguments.folder,
    )  # fmt: skip
    finish(arguments, trainer, data.DataLoader(data.Arrays(codes[known:], labels[known:]), 256))


if __name__ == "__main__":
    main()
