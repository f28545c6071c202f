"""``dlk train``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from dlk import _progress
from dlk.cli.common import DeviceOption, JsonOption, print_json

__all__ = ["train"]


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to train, and how.")],
    device: DeviceOption = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of the folder.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Train a network as a configuration says (docs/training.md)."""
    from dlk.train.config import make_trainer, read_config

    settings = read_config(config)
    trainer = make_trainer(settings, config.parent, device or None)
    if resume and not trainer.resume():
        print("there is no checkpoint to go on from; starting anew", file=sys.stderr)
    started = time.perf_counter()

    def tell(row: object) -> None:
        if not json and isinstance(row, dict):
            shown = ", ".join(f"{k} {v:.4g}" for k, v in sorted(row.items()))
            print(shown, flush=True)

    trainer.callback = tell
    with _progress.shown():
        history = trainer.fit(settings["train"]["epochs"])
    model = settings["train"].get("model")
    if model:
        trainer.export(config.parent / model)
    last = history.epochs[-1] if history.epochs else {}
    if json:
        print_json(
            {
                "device": trainer.step.device.id,
                "epochs": len(history.epochs),
                "seconds": time.perf_counter() - started,
                "stopped": history.stopped,
                **last,
            }
        )
    elif history.stopped:
        print(f"stopped: {history.stopped}")
