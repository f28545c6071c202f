"""``dlk classify``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from dlk import _progress
from dlk.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    WeightsOption,
    load_model,
    print_json,
)

__all__ = ["classify"]

DEFAULT_MODEL = "efficientnet_lite0"


def classify(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A photograph: PNG, JPEG, ...")],
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|PATH", help="A zoo network or a model file.")
    ] = DEFAULT_MODEL,
    weights: WeightsOption = "",
    device: DeviceOption = "",
    dtype: DtypeOption = "float32",
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="How many labels.")] = 5,
    json: JsonOption = False,
) -> None:
    """Say what is in a photograph.

    Prints the most likely labels with their probabilities, the device and the time of one run.
    """
    from dlk import images

    picture = images.load_image(image)
    with _progress.shown():
        network = load_model(model, device, dtype, weights)
        info = network.graph.info
        if not info.preprocessing:
            raise ValueError(
                f"{model} does not say how to prepare an image; use `dlk run` with prepared inputs"
            )
        steps = images.Preprocessing.from_json(info.preprocessing)
        name = steps.input or next(iter(network.inputs))
        feeds = {name: images.prepare(picture, steps, network.inputs[name].dtype)}
        network.plan(feeds)  # compiles, so that the time below is the network's
        start = time.perf_counter()
        scores = network.run(feeds)[network.outputs[0]]
        elapsed_ms = (time.perf_counter() - start) * 1e3
    logits = info.text.get("output") == "logits"
    best = _top(scores.reshape(-1), tuple(info.labels), top, logits)
    if json:
        print_json({"device": network.device.id, "top": best, "ms": elapsed_ms})
        return
    for entry in best:
        print(f"{entry['score']:7.3f}  {entry['label']}")
    print(f"{network.device.id} ({network.device.name}), {elapsed_ms:.1f} ms")


def _top(scores: Any, labels: tuple[str, ...], count: int, logits: bool) -> list[dict[str, Any]]:
    """Labels and probabilities; logits, and what cannot be probabilities, get their softmax."""
    import numpy as np

    values = scores.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the network's scores are not finite: the weights or the dtype are wrong")
    if logits or values.min() < 0 or abs(values.sum() - 1) > 1e-2:
        values = np.exp(values - values.max())
        values /= values.sum()
    order = np.argsort(-values, kind="stable")[:count]
    return [
        {"label": labels[i] if i < len(labels) else f"class {i}", "score": float(values[i])}
        for i in order.tolist()
    ]
