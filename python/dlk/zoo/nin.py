"""Network in network: convolutions followed by 1x1 convolutions (cccp), averaged at the end. Layer
names are those of the published Caffe models, whose pooling rounds sizes up."""

from __future__ import annotations

from dlk import nn


class _Net(nn.Module):
    """Named convolutions with ReLU, and poolings between them."""

    def __init__(self, layers: list[tuple[str, nn.Conv2d] | nn.Module]) -> None:
        super().__init__()
        self._steps: list[nn.Module] = []
        for layer in layers:
            if isinstance(layer, tuple):
                self.add_module(*layer)
                self._steps += [layer[1], nn.ReLU()]
            else:
                self._steps.append(layer)

    def forward(self, *inputs: nn.Value) -> nn.Value:
        """Logits."""
        (x,) = inputs
        for step in self._steps:
            x = step(x)
        return nn.flatten(nn.global_avg_pool2d(x))


class NINCifar(_Net):
    """(N, 3, 32, 32) to (N, num_classes)."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(
            [
                ("conv1", nn.Conv2d(3, 192, 5, padding=2)),
                ("cccp1", nn.Conv2d(192, 160, 1)),
                ("cccp2", nn.Conv2d(160, 96, 1)),
                nn.MaxPool2d(3, 2, ceil_mode=True),
                ("conv2", nn.Conv2d(96, 192, 5, padding=2)),
                ("cccp3", nn.Conv2d(192, 192, 1)),
                ("cccp4", nn.Conv2d(192, 192, 1)),
                nn.AvgPool2d(3, 2, ceil_mode=True),
                ("conv3", nn.Conv2d(192, 192, 3, padding=1)),
                ("cccp5", nn.Conv2d(192, 192, 1)),
                ("cccp6", nn.Conv2d(192, num_classes, 1)),
            ]
        )


class NINImageNet(_Net):
    """(N, 3, 224, 224) to (N, num_classes)."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__(
            [
                ("conv1", nn.Conv2d(3, 96, 11, stride=4)),
                ("cccp1", nn.Conv2d(96, 96, 1)),
                ("cccp2", nn.Conv2d(96, 96, 1)),
                nn.MaxPool2d(3, 2, ceil_mode=True),
                ("conv2", nn.Conv2d(96, 256, 5, padding=2)),
                ("cccp3", nn.Conv2d(256, 256, 1)),
                ("cccp4", nn.Conv2d(256, 256, 1)),
                nn.MaxPool2d(3, 2, ceil_mode=True),
                ("conv3", nn.Conv2d(256, 384, 3, padding=1)),
                ("cccp5", nn.Conv2d(384, 384, 1)),
                ("cccp6", nn.Conv2d(384, 384, 1)),
                nn.MaxPool2d(3, 2, ceil_mode=True),
                ("conv4-1024", nn.Conv2d(384, 1024, 3, padding=1)),
                ("cccp7-1024", nn.Conv2d(1024, 1024, 1)),
                ("cccp8-1024", nn.Conv2d(1024, num_classes, 1)),
            ]
        )
