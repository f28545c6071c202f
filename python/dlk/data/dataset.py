"""Data sets: indexed samples, each a tuple of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Dataset(Protocol):
    """Samples by number. PyTorch's map-style data sets are such."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class Arrays:
    """Samples as rows of arrays of equal length. Raises ValueError where lengths differ."""

    def __init__(self, *arrays: NDArray[Any]) -> None:
        if not arrays:
            raise ValueError("a data set needs at least one array")
        lengths = {len(a) for a in arrays}
        if len(lengths) > 1:
            raise ValueError(
                f"arrays of different lengths: {', '.join(str(len(a)) for a in arrays)}"
            )
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return tuple(a[index] for a in self.arrays)

    def batch(self, indices: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Several samples at once."""
        return tuple(a[indices] for a in self.arrays)


class Subset:
    """Some samples of a data set."""

    def __init__(self, source: Dataset, indices: Sequence[int] | NDArray[np.int64]) -> None:
        self.source, self.indices = source, np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.source[int(self.indices[index])]


def split(source: Dataset, *sizes: int, seed: int = 0) -> list[Subset]:
    """Parts of the given sizes, drawn at random; what is left over is not used.

    Raises ValueError where the sizes add up to more than there is.
    """
    if sum(sizes) > len(source):
        raise ValueError(f"{sum(sizes)} samples are wanted, there are {len(source)}")
    order = np.random.default_rng(seed).permutation(len(source))
    parts, start = [], 0
    for size in sizes:
        parts.append(Subset(source, order[start : start + size]))
        start += size
    return parts
