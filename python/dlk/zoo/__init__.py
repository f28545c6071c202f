"""Networks by name, with pretrained weights where a package index offers some.

    graph = dlk.zoo.build("efficientnet_lite0")            # fetches its weights once
    graph = dlk.zoo.build("resnet50", weights="random", seed=1)

Parameter names and numbers are those of the PyTorch versions (torchvision's where it has the
network), so that their state dicts load. All classifiers give logits of shape (N, classes).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .networks import NETWORKS, Network

if TYPE_CHECKING:
    import numpy as np

    from dlk import nn
    from dlk._core import Graph

__all__ = ["Network", "build", "module", "names", "network"]

Progress = Callable[[str, int, int], None]


def names(pretrained: bool = False) -> list[str]:
    """The networks, sorted; with `pretrained`, those that have weights to fetch."""
    return sorted(n for n, entry in NETWORKS.items() if entry.weights or not pretrained)


def network(name: str) -> Network:
    """What is known of a network. ValueError names the others when there is none."""
    if name not in NETWORKS:
        raise ValueError(f"the zoo has no network {name!r}; it has {', '.join(names())}")
    return NETWORKS[name]


def module(name: str, num_classes: int | None = None) -> nn.Module:
    """The network as a `dlk.nn` module, without values."""
    entry = network(name)
    return entry.make(entry.num_classes if num_classes is None else num_classes)


def build(
    name: str,
    weights: str | os.PathLike[str] | Mapping[str, np.ndarray] = "pretrained",
    seed: int = 0,
    num_classes: int | None = None,
    *,
    image_size: int | None = None,
    trainable: bool = False,
    progress: Progress | None = None,
) -> Graph:
    """The graph of a network: input "image" of shape (N, C, H, W), float32, output "logits".

    `weights` is "pretrained" (fetched into the cache folder on first use), "random" (He
    initialization from `seed`), a file of a PyTorch state dict, or arrays by name. `num_classes`
    and `image_size` replace the network's own. With `trainable`, parameters are variables.
    `progress` is told (stage, done, total) of a download.

    Raises ValueError for unknown names, for "pretrained" where there are no weights (or another
    number of classes is asked for), and for weights that do not fit; RuntimeError when weights
    cannot be fetched, with the command that would.
    """
    from dlk import nn

    entry = network(name)
    net = module(name, num_classes)
    if isinstance(weights, Mapping):
        net.load_state_dict(weights)
    elif weights == "random":
        net.initialize(seed)
    elif weights == "pretrained":
        net.load_state_dict(_pretrained(entry, num_classes, progress))
    else:
        from dlk.importers import torch

        net.load_state_dict(torch.load_state_dict(weights))
    channels, size = entry.channels, image_size or entry.image_size
    shape = ("N", channels, size, size)
    graph = nn.build(net, {"image": shape}, ["logits"], trainable=trainable)
    _describe(graph, entry, num_classes, weights, image_size)
    return graph


def _pretrained(
    entry: Network, num_classes: int | None, progress: Progress | None
) -> Mapping[str, np.ndarray]:
    if entry.weights is None:
        raise ValueError(
            f"{entry.name} has no pretrained weights to fetch; as weights, give the path of a "
            f'state dict, or "random". Networks with weights: {", ".join(names(pretrained=True))}'
        )
    if num_classes not in (None, entry.num_classes):
        raise ValueError(
            f"the weights of {entry.name} are for {entry.num_classes} classes, not {num_classes}; "
            'use weights="random" or load your own'
        )
    from dlk.importers import torch

    from .fetch import fetch

    return torch.load_state_dict(fetch(entry.weights, progress))


def _describe(
    graph: Graph, entry: Network, num_classes: int | None, weights: Any, image_size: int | None
) -> None:
    pretrained = weights == "pretrained" if isinstance(weights, str) else False
    text = {"name": entry.name, "paper": entry.paper, "output": "logits"}
    if pretrained and entry.weights is not None:
        text |= {"license": entry.license, "source": str(entry.weights.package)}
    graph.info.text = text
    preprocessing = dict(entry.preprocessing)
    if image_size is not None:
        for key in ("resize", "crop"):
            if key in preprocessing:
                preprocessing[key] = image_size if key == "crop" else [image_size, image_size]
        if "resize_short" in preprocessing:
            ratio = preprocessing["resize_short"] / entry.image_size
            preprocessing["resize_short"] = round(image_size * ratio)
    graph.info.preprocessing = json.dumps({"input": "image", **preprocessing})
    if num_classes in (None, entry.num_classes):
        graph.info.labels = entry.labels()
