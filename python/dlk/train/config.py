"""Training from a TOML file: the network, the data, the optimizer.

[model]
input = [1, 28, 28]
layers = [["Conv2d", 1, 8, 5], ["ReLU"], ["MaxPool2d", 2], ["Flatten"], ["Linear", 1152, 10]]

[data]
format = "idx"                              # idx, cifar, csv, ts or folder
train = ["train-images.gz", "train-labels.gz"]
validation = ["t10k-images.gz", "t10k-labels.gz"]

[train]
epochs = 5
batch_size = 64
optimizer = "Adam"
lr = 1e-3
folder = "run"
model = "trained.dlk"                       # or .onnx

Instead of `layers`, [model] may name a `network` of the zoo (with `classes`) or a `file` (.onnx,
.dlk); `weights` is a state dict to begin with. [train] also knows seed, dtype, patience, target,
checkpoint_steps, tensorboard, ema, accumulate, recompute = "auto", freeze (beginnings of names),
and `options` of the optimizer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlk import data, nn, optim
from dlk.device import Device

from .finetune import freeze
from .step import TrainStep
from .trainer import Trainer

_FORMATS = ("idx", "cifar", "csv", "ts", "folder")
_KNOWN = {
    "model": {"input", "layers", "network", "classes", "file", "weights"},
    "data": {"format", "train", "validation", "label", "size", "flip", "crop"},
    "train": {"epochs", "batch_size", "optimizer", "lr", "folder", "model", "seed", "dtype",
              "patience", "target", "checkpoint_steps", "tensorboard", "ema", "accumulate",
              "recompute", "freeze"},
}  # fmt: skip


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings of a file. ValueError for unknown or missing ones."""
    if sys.version_info < (3, 11):
        raise NotImplementedError("configurations need Python 3.11")
    import tomllib

    try:
        settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from error
    for table, known in _KNOWN.items():
        if table not in settings:
            raise ValueError(f"{path}: the table [{table}] is missing")
        extra = set(settings[table]) - known - ({"options"} if table == "train" else set())
        if extra:
            raise ValueError(f"{path}: [{table}] has no setting {sorted(extra)[0]!r}")
    for table, name in (("model", "input"), ("data", "train"), ("train", "epochs")):
        if name not in settings[table]:
            raise ValueError(f"{path}: {name!r} is missing in [{table}]")
    if len({"layers", "network", "file"} & set(settings["model"])) != 1:
        raise ValueError(f"{path}: [model] needs one of 'layers', 'network' and 'file'")
    return settings


def make_network(layers: Sequence[Sequence[Any]]) -> nn.Sequential:
    """A chain of layers of `dlk.nn`, each a name and its arguments."""
    modules = []
    for layer in layers:
        name, *arguments = layer
        kind = getattr(nn, str(name), None)
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise ValueError(f"dlk.nn has no layer {name!r}")
        named = arguments.pop() if arguments and isinstance(arguments[-1], Mapping) else {}
        modules.append(kind(*arguments, **named))
    return nn.Sequential(*modules)


def make_module(model: Mapping[str, Any], folder: Path, seed: int) -> nn.Module:
    """The network of [model], with values."""
    if "file" in model:
        from dlk.sources import load_graph

        net: nn.Module = nn.Imported(load_graph(folder / model["file"]))
    elif "network" in model:
        from dlk import zoo

        net = zoo.module(model["network"], model.get("classes"))
        net.initialize(seed)
    else:
        net = make_network(model["layers"])
        net.initialize(seed)
    if "weights" in model:
        from dlk.importers import torch

        net.load_state_dict(torch.load_state_dict(folder / model["weights"]))
    return net


def read_data(settings: Mapping[str, Any], part: str, folder: Path) -> Any:
    """The data set of ``train`` or ``validation``."""
    kind = settings.get("format", "idx")
    if kind not in _FORMATS:
        raise ValueError(f"format is one of {', '.join(_FORMATS)}, not {kind!r}")
    given = settings[part]
    paths = [folder / p for p in ([given] if isinstance(given, str) else given)]
    if kind == "idx":
        if len(paths) != 2:
            raise ValueError(f"{part}: idx takes two files, images and labels")
        return data.read_idx_images(*paths)
    if kind == "cifar":
        return data.read_cifar(*paths)
    if kind == "csv":
        return data.read_csv(paths[0], label=settings.get("label", -1))
    if kind == "ts":
        return data.read_ts(paths[0])[0]
    height, width = settings.get("size", (224, 224))
    return data.ImageFolder(paths[0], (height, width))


def make_trainer(
    settings: Mapping[str, Any], folder: Path, device: Device | str | None = None
) -> Trainer:
    """A trainer as the settings say; paths are relative to `folder`."""
    model, sets, run = settings["model"], settings["data"], settings["train"]
    seed = run.get("seed", 0)
    net = make_module(model, folder, seed)
    if "freeze" in run:
        freeze(net, keep=lambda name: not name.startswith(tuple(run["freeze"])))
    kind = getattr(optim, run.get("optimizer", "Adam"), None)
    if not (isinstance(kind, type) and issubclass(kind, optim.Optimizer)):
        raise ValueError(f"dlk.optim has no optimizer {run.get('optimizer')!r}")
    optimizer = kind(run.get("lr", 1e-3), **run.get("options", {}))
    step = TrainStep(
        net,
        {"x": ("N", *model["input"])},
        {"labels": (("N",), "int32")},
        lambda y, labels: (
            nn.losses.cross_entropy(y, labels),
            {"accuracy": nn.losses.accuracy(y, labels)},
        ),
        optimizer,
        device=device,
        dtype=run.get("dtype", "float32"),
        accumulate=run.get("accumulate", 1),
        ema=run.get("ema"),
        seed=seed,
        recompute=run.get("recompute"),
    )
    size = run.get("batch_size", 32)
    changes: list[Any] = []
    if sets.get("crop"):
        changes.append(data.random_crop(tuple(model["input"][1:]), sets["crop"]))
    if sets.get("flip"):
        changes.append(data.random_flip())
    train = data.DataLoader(
        read_data(sets, "train", folder), size, shuffle=True, seed=seed,
        transform=data.Compose(*changes) if changes else None,
    )  # fmt: skip
    check = None
    if "validation" in sets:
        check = data.DataLoader(read_data(sets, "validation", folder), size)
    return Trainer(
        step,
        train,
        check,
        folder=folder / run["folder"] if "folder" in run else None,
        monitor="validation/accuracy" if check is not None else "accuracy",
        largest=True,
        patience=run.get("patience"),
        target=run.get("target"),
        checkpoint_steps=run.get("checkpoint_steps", 0),
        tensorboard=run.get("tensorboard", False),
    )
