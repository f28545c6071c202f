"""The loop: epochs, validation, checkpoints, logs, early stopping."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlk import _progress

from .checkpoint import load_checkpoint, save_checkpoint
from .logs import CsvLog, TensorBoardLog
from .step import StepResult, TrainStep


@dataclass
class History:
    """What happened: a row of numbers for each epoch."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""
    """Why training ended before its last epoch; empty where it did not."""

    def best(self, metric: str, largest: bool = True) -> float:
        """The best value of a metric over the epochs."""
        values = [e[metric] for e in self.epochs if metric in e]
        if not values:
            raise ValueError(f"no epoch has {metric!r}")
        return max(values) if largest else min(values)


class Trainer:
    """Runs a `TrainStep` over a loader.

    Args:
        step: what is trained.
        train: batches; a `dlk.data.DataLoader` resumes in the middle of an epoch, other iterables
            at the start of one.
        validation: batches for the end of each epoch; None for none.
        folder: for checkpoints (``last.ckpt``, ``best.ckpt``) and logs; None writes nothing.
        monitor: the metric that decides what is best (``"validation/accuracy"``).
        largest: whether more of it is better.
        patience: epochs without a better value before training stops; None for no limit.
        target: stops as soon as the monitored metric is as good.
        checkpoint_steps: steps between checkpoints; 0 writes one at the end of each epoch.
        tensorboard: writes an event file too.
        callback: called with each epoch's row.
    """

    def __init__(
        self,
        step: TrainStep,
        train: Iterable[Any],
        validation: Iterable[Any] | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        monitor: str = "validation/loss",
        largest: bool = False,
        patience: int | None = None,
        target: float | None = None,
        checkpoint_steps: int = 0,
        tensorboard: bool = False,
        callback: Callable[[Mapping[str, float]], None] | None = None,
    ) -> None:
        self.step, self.train, self.validation = step, train, validation
        self.folder = None if folder is None else Path(folder)
        self.monitor, self.largest, self.patience, self.target = monitor, largest, patience, target
        self.checkpoint_steps, self.callback = checkpoint_steps, callback
        self.history = History()
        self.epoch = 0
        self._in_epoch = 0
        self._best: float | None = None
        self._since_best = 0
        self._evaluator = None if validation is None else step.evaluator()
        self._logs: list[Any] = []
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._logs.append(CsvLog(self.folder / "log.csv"))
            if tensorboard:
                self._logs.append(TensorBoardLog(self.folder))

    def fit(self, epochs: int, max_steps: int | None = None) -> History:
        """Trains until `epochs` are done (those of a resumed checkpoint count).

        Raises:
            ValueError: the data set is empty.
            FloatingPointError: the loss is no number any more.
        """
        while self.epoch < epochs and not self.history.stopped:
            row = self._run_epoch(max_steps)
            if row is None:
                self.history.stopped = f"{max_steps} steps"
                break
            self.epoch += 1
            self._in_epoch = 0
            self._finish_epoch(row)
        self.step.pull()
        return self.history

    def _run_epoch(self, max_steps: int | None) -> dict[str, float] | None:
        started, samples = time.perf_counter(), 0
        sums: dict[str, float] = {}
        pending: list[tuple[StepResult, int]] = []
        if hasattr(self.train, "start"):
            self.train.start(self.epoch, self._in_epoch)
        count = 0
        for batch in self.train:
            arrays = tuple(batch)
            pending.append((self.step(*arrays), len(arrays[0])))
            count += 1
            self._in_epoch += 1
            # One step behind: the next one is under way while this one is read.
            if len(pending) > 1:
                samples += self._collect(pending.pop(0), sums)
            total = len(self.train) if isinstance(self.train, Sized) else 0
            _progress.report(f"epoch {self.epoch + 1}", self._in_epoch, total)
            if self.checkpoint_steps and self.step.steps % self.checkpoint_steps == 0:
                self.save("last.ckpt")
            if max_steps is not None and self.step.steps >= max_steps:
                break
        while pending:
            samples += self._collect(pending.pop(0), sums)
        if count == 0 and self._in_epoch == 0:
            raise ValueError("there is nothing to train on: the data set gives no batch")
        if max_steps is not None and self.step.steps >= max_steps:
            return None
        seconds = time.perf_counter() - started
        row = {name: total / max(samples, 1) for name, total in sums.items()}
        return {**row, "seconds": seconds, "samples_per_second": samples / seconds}

    @staticmethod
    def _collect(pending: tuple[StepResult, int], sums: dict[str, float]) -> int:
        result, size = pending
        for name, value in result.metrics().items():
            sums[name] = sums.get(name, 0.0) + value * size
        return size

    def _finish_epoch(self, row: dict[str, float]) -> None:
        row["epoch"] = float(self.epoch)
        row["learning_rate"] = self.step.optimizer.rate(self.step.steps // self.step.accumulate)
        if self._evaluator is not None and self.validation is not None:
            for name, value in self._evaluator.evaluate(self.validation).items():
                row[f"validation/{name}"] = value
        self.history.epochs.append(row)
        for log in self._logs:
            log.write(self.step.steps, row)
        if self.callback is not None:
            self.callback(row)
        self._judge(row)
        if self.folder is not None:
            self.save("last.ckpt")

    def _judge(self, row: Mapping[str, float]) -> None:
        value = row.get(self.monitor)
        if value is None:
            return
        better = self._best is None or (value > self._best if self.largest else value < self._best)
        self._since_best = 0 if better else self._since_best + 1
        if better:
            self._best = value
            if self.folder is not None:
                self.save("best.ckpt")
        reached = self.target is not None and (
            value >= self.target if self.largest else value <= self.target
        )
        if reached:
            self.history.stopped = f"{self.monitor} reached {value:.4g}"
        elif self.patience is not None and self._since_best >= self.patience:
            self.history.stopped = f"{self.monitor} is no better since {self.patience} epochs"

    def export(self, path: str | os.PathLike[str]) -> None:
        """Writes the trained network in its inference form: ``.dlk``, or ``.onnx``."""
        from dlk import _core
        from dlk.nn import build

        self.step.pull(averaged=True)
        names = [f"y{i}" for i in range(self.step.result_count)]
        graph = build(self.step.module, self.step.inputs, names if len(names) > 1 else ("y",))
        if Path(path).suffix == ".onnx":
            from dlk.exporters.onnx import save_onnx

            save_onnx(graph, path)
            return
        _core.save_dlk(graph, os.fspath(path))

    # Checkpoints -------------------------------------------------------------------------------

    def save(self, name: str = "last.ckpt") -> None:
        """Writes a checkpoint to the folder."""
        if self.folder is None:
            raise ValueError("the trainer has no folder for checkpoints")
        state = {
            "steps": self.step.steps,
            "epoch": self.epoch,
            "in_epoch": self._in_epoch,
            "best": self._best,
            "since_best": self._since_best,
            "history": self.history.epochs,
        }
        save_checkpoint(self.folder / name, self.step.state_dict(), state)

    def resume(self, name: str = "last.ckpt") -> bool:
        """Goes on where a checkpoint of the folder was written; False where there is none."""
        if self.folder is None or not (self.folder / name).is_file():
            return False
        tensors, state = load_checkpoint(self.folder / name)
        self.step.load_state_dict(tensors)
        self.step.steps = state["steps"]
        self.epoch, self._in_epoch = state["epoch"], state["in_epoch"]
        self._best, self._since_best = state["best"], state["since_best"]
        self.history.epochs = state["history"]
        if self._in_epoch and not hasattr(self.train, "start"):
            raise ValueError(
                "the checkpoint is from the middle of an epoch; a dlk.data.DataLoader can go on "
                "there, another iterable cannot"
            )
        return True
