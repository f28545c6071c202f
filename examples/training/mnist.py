"""LeNet with dropout on handwritten digits."""

from __future__ import annotations

from common import classification, finish, hold_out, options
from dlk import data, nn, optim, train
from sources import digits


def network() -> nn.Sequential:
    """(N, 1, 28, 28) to 10 logits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip


def main() -> None:
    arguments = options("mnist", 8, __doc__).parse_args()
    net = network()
    net.initialize(arguments.seed)
    training, test = digits()
    learnt, validation = hold_out(training, 800)
    step = train.TrainStep(
        net, {"x": ("N", 1, 28, 28)}, {"labels": (("N",), "int32")}, classification,
        optim.Adam(1e-3), device=arguments.device, seed=arguments.seed,
    )  # fmt: skip
    trainer = train.Trainer(
        step,
        data.DataLoader(learnt, 64, shuffle=True, seed=arguments.seed),
        data.DataLoader(validation, 400),
        folder=arguments.folder, monitor="validation/accuracy", largest=True,
    )  # fmt: skip
    finish(arguments, trainer, data.DataLoader(test, 500))


if __name__ == "__main__":
    main()
