"""Data sets, readers of their formats, augmentation and batches.

    digits = data.read_idx_images("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
    loader = data.DataLoader(digits, batch_size=64, shuffle=True, seed=0)

A data set is anything with ``len`` and ``[index]`` that gives a tuple of arrays; `Arrays` holds
whole arrays. `DataLoader` also takes PyTorch's data sets.
"""

from .augment import Compose, color_jitter, normalize, random_crop, random_flip
from .dataset import Arrays, Dataset, Subset, split
from .loader import DataLoader
from .readers import (
    ImageFolder,
    read_cifar,
    read_csv,
    read_idx,
    read_idx_images,
    read_ts,
)

__all__ = [
    "Arrays",
    "Compose",
    "DataLoader",
    "Dataset",
    "ImageFolder",
    "Subset",
    "color_jitter",
    "normalize",
    "random_crop",
    "random_flip",
    "read_cifar",
    "read_csv",
    "read_idx",
    "read_idx_images",
    "read_ts",
    "split",
]
