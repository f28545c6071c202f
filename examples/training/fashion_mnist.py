"""A small CNN on Fashion-MNIST."""

from __future__ import annotations

from common import classification, finish, hold_out, options
from dlk import data, nn, optim, train
from sources import fashion


def network() -> nn.Sequential:
    """(N, 1, 28, 28) to 10 logits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1568, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10),
    )  # fmt: skip


def main() -> None:
    arguments = options("fashion_mnist", 10, __doc__).parse_args()
    net = network()
    net.initialize(arguments.seed)
    training, test = fashion()
    learnt, validation = hold_out(training, 5000)
    loader = data.DataLoader(learnt, 64, shuffle=True, seed=arguments.seed, drop_last=True)
    schedule = optim.cosine(1.5e-3, steps=arguments.epochs * len(loader), warmup=200)
    step = train.TrainStep(
        net, {"x": ("N", 1, 28, 28)}, {"labels": (("N",), "int32")}, classification,
        optim.AdamW(schedule, weight_decay=1e-2), device=arguments.device, seed=arguments.seed,
    )  # fmt: skip
    trainer = train.Trainer(
        step, loader, data.DataLoader(validation, 500),
        folder=arguments.folder, monitor="validation/accuracy", largest=True,
    )  # fmt: skip
    finish(arguments, trainer, data.DataLoader(test, 500))


if __name__ == "__main__":
    main()
