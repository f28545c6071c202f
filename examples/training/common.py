"""Options and results that the training examples share."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from dlk import data, nn, train


def options(name: str, epochs: int, description: str | None = None) -> argparse.ArgumentParser:
    """The common command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default=None, help='"opencl", "vulkan:0", ...')
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs") / name)
    return parser


def classification(y: nn.Value, labels: nn.Value) -> Any:
    """Cross-entropy, and the share of right answers."""
    return nn.losses.cross_entropy(y, labels), {"accuracy": nn.losses.accuracy(y, labels)}


def tell(arguments: argparse.Namespace) -> Any:
    """A trainer's callback that prints each epoch's numbers."""

    def print_row(row: Any) -> None:
        if not arguments.json:
            print(", ".join(f"{k} {v:.4g}" for k, v in sorted(row.items())), flush=True)

    return print_row


def hold_out(training: data.Dataset, count: int) -> tuple[data.Dataset, data.Dataset]:
    """What is learnt from, and `count` samples of it, drawn at random, to choose the epoch by."""
    learnt, validation = data.split(training, len(training) - count, count)
    return learnt, validation


def finish(arguments: argparse.Namespace, trainer: train.Trainer, test: data.DataLoader) -> None:
    """Trains, draws the history, and tests the epoch that validation found best: the test data has
    no part in that choice."""
    trainer.callback = tell(arguments)
    started = time.perf_counter()
    history = trainer.fit(arguments.epochs)
    seconds = time.perf_counter() - started
    draw(history, arguments.folder / "history.png")
    trainer.resume("best.ckpt")
    accuracy = trainer.step.evaluator().evaluate(test)["accuracy"]
    report(arguments, "test/accuracy", accuracy, seconds)


def report(arguments: argparse.Namespace, metric: str, value: float, seconds: float) -> None:
    """The result, for people or as JSON."""
    if arguments.json:
        print(json.dumps({"metric": metric, "value": value, "seconds": seconds}))
    else:
        print(f"{metric} {value:.4f} in {seconds:.1f} s")


def draw(history: train.History, path: Path) -> None:
    """The history as a picture, where matplotlib is installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return
    skipped = ("seconds", "samples_per_second", "epoch", "learning_rate")
    names = sorted({n for row in history.epochs for n in row if n not in skipped})
    kinds = sorted({n.removeprefix("validation/") for n in names})
    figure, axes = pyplot.subplots(1, max(1, len(kinds)), figsize=(5 * max(1, len(kinds)), 4))
    for kind, plot in zip(kinds, [axes] if len(kinds) == 1 else axes, strict=True):
        for name in (kind, f"validation/{kind}"):
            values = [row[name] for row in history.epochs if name in row]
            if values:
                plot.plot(range(1, len(values) + 1), values, label=name)
        plot.set_xlabel("epoch")
        plot.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
