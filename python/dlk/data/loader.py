"""Batches in the background, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .augment import Transform
from .dataset import Dataset, Subset

Batch = tuple[NDArray[Any], ...]


class DataLoader:
    """Iterates over a data set in batches.

    The order of epoch e follows from (seed, e), and the augmentation of a sample from (seed, e, its
    number): a run that resumes gets the same batches. `start(epoch, batch)` says where the next
    iteration begins.

    Args:
        dataset: samples; PyTorch's map-style data sets will do.
        batch_size: samples in a batch.
        shuffle: a new order each epoch.
        seed: of order and augmentation.
        drop_last: leaves out a last batch that is not full.
        transform: augmentation of the first array of each sample.
        workers: processes that load samples; 0 loads in a thread of this process.
        prefetch: batches that are kept ready.

    Raises:
        ValueError: the data set is empty, or gives no batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
        *,
        drop_last: bool = False,
        transform: Transform | None = None,
        workers: int = 0,
        prefetch: int = 2,
    ) -> None:
        if len(dataset) == 0:
            raise ValueError("the data set is empty")
        if batch_size < 1:
            raise ValueError("batch_size must be at least 1")
        if drop_last and len(dataset) < batch_size:
            raise ValueError(
                f"{len(dataset)} samples make no batch of {batch_size}; drop_last leaves them out"
            )
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, batch_size, shuffle, seed
        self.drop_last, self.transform, self.workers = drop_last, transform, workers
        self.prefetch = max(1, prefetch)
        self._epoch, self._first = 0, 0

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def start(self, epoch: int, batch: int = 0) -> None:
        """The next iteration is of `epoch`, from `batch` on."""
        self._epoch, self._first = epoch, batch

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._epoch, self._first
        self._epoch, self._first = epoch + 1, 0
        parts = self._parts(epoch)[first:]
        if self.workers:
            yield from self._from_processes(parts, epoch)
        else:
            yield from _in_background(lambda part: self._load(part, epoch), parts, self.prefetch)

    def _parts(self, epoch: int) -> list[NDArray[np.int64]]:
        count = len(self.dataset)
        order = (
            np.random.default_rng([self.seed, epoch]).permutation(count)
            if self.shuffle
            else np.arange(count)
        )
        return [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(len(self))]

    def _load(self, indices: NDArray[np.int64], epoch: int) -> Batch:
        return load_batch(self.dataset, indices, self.transform, self.seed, epoch)

    def _from_processes(self, parts: list[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        with ProcessPoolExecutor(self.workers) as pool:
            pending: list[Any] = []
            for part in parts:
                arguments = (self.dataset, part, self.transform, self.seed, epoch)
                pending.append(pool.submit(load_batch, *arguments))
                if len(pending) > self.prefetch * self.workers:
                    yield pending.pop(0).result()
            for future in pending:
                yield future.result()


def load_batch(
    dataset: Dataset,
    indices: NDArray[np.int64],
    transform: Transform | None,
    seed: int,
    epoch: int,
) -> Batch:
    """The samples of `indices`, stacked."""
    if transform is None and isinstance(dataset, Subset):
        return load_batch(dataset.source, dataset.indices[indices], None, seed, epoch)
    if transform is None and hasattr(dataset, "batch"):
        whole: Batch = dataset.batch(indices)
        return whole
    samples = []
    for index in indices:
        sample = tuple(np.asarray(part) for part in dataset[int(index)])
        if transform is not None:
            rng = np.random.default_rng([seed, epoch, int(index)])
            sample = (transform(sample[0], rng), *sample[1:])
        samples.append(sample)
    shapes = {s[0].shape for s in samples}
    if len(shapes) > 1:
        raise ValueError(f"samples of different shapes in a batch: {sorted(shapes)}")
    return tuple(np.stack(parts) for parts in zip(*samples, strict=True))


def _in_background(
    load: Callable[[NDArray[np.int64]], Batch], parts: list[NDArray[np.int64]], prefetch: int
) -> Iterator[Batch]:
    """Loads in a thread, up to `prefetch` batches ahead; errors arrive where the batch would."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(prefetch)
    stopped = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue
        return None

    def work() -> None:
        try:
            for part in parts:
                if stopped.is_set():
                    return
                put(load(part))
        except BaseException as error:  # handed to the consumer
            put(error)
        put(None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
