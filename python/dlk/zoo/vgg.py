"""VGG with 16 weight layers, without batch normalization, as torchvision has it."""

from __future__ import annotations

from dlk import nn

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class VGG16(nn.Module):
    """(N, 3, 224, 224) to (N, num_classes)."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, depth in _STAGES:
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, num_classes),
        )

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """Logits."""
        x = nn.adaptive_avg_pool2d(self.features(*inputs), 7)
        y: nn.Value = self.classifier(nn.flatten(x))
        return y
