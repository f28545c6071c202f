"""LeNet-5 in the form that Caffe made popular: max pooling, ReLU, 28x28 digits."""

from __future__ import annotations

from dlk import nn


class LeNet(nn.Module):
    """(N, 1, 28, 28) to (N, num_classes)."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, num_classes)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """Logits."""
        (x,) = inputs
        x = nn.max_pool2d(self.conv1(x), 2)
        x = nn.max_pool2d(self.conv2(x), 2)
        x = nn.relu(self.fc1(nn.flatten(x)))
        y: nn.Value = self.fc2(x)
        return y
