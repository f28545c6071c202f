"""Activities from six sensor channels: 1-D convolutions, an LSTM, a classifier."""

from __future__ import annotations

from common import classification, finish, hold_out, options
from dlk import data, nn, optim, train
from sources import basic_motions


class ActivityNet(nn.Module):
    """(N, 6, 100) to 4 logits."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(6, 32, 5, stride=2, padding=2)
        self.conv2 = nn.Conv1d(32, 32, 5, stride=5)
        self.lstm = nn.LSTM(32, 32)
        self.last = nn.Conv1d(32, classes, 1)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """Logits, averaged over time."""
        (x,) = inputs
        x = nn.relu(self.conv1(x))
        x = nn.relu(self.conv2(x))  # (N, 32, 10)
        y, _, _ = self.lstm(nn.transpose(x, (2, 0, 1)))
        y = self.last(nn.transpose(y, (1, 2, 0)))
        return nn.arithmetic.reduce_mean(y, 2)


def main() -> None:
    arguments = options("activity", 60, __doc__).parse_args()
    training, test, classes = basic_motions()
    mean = training.arrays[0].mean((0, 2), keepdims=True)
    spread = training.arrays[0].std((0, 2), keepdims=True)

    def scaled(part: data.Arrays) -> data.Arrays:
        return data.Arrays((part.arrays[0] - mean) / spread, part.arrays[1])

    learnt, validation = hold_out(scaled(training), 8)
    net = ActivityNet(len(classes))
    net.initialize(arguments.seed)
    step = train.TrainStep(
        net, {"x": ("N", 6, 100)}, {"labels": (("N",), "int32")}, classification,
        optim.Adam(3e-3), device=arguments.device, seed=arguments.seed,
    )  # fmt: skip
    trainer = train.Trainer(
        step,
        data.DataLoader(learnt, 16, shuffle=True, seed=arguments.seed),
        data.DataLoader(validation, 8),
        folder=arguments.folder,
    )  # fmt: skip
    finish(arguments, trainer, data.DataLoader(scaled(test), 40))


if __name__ == "__main__":
    main()
