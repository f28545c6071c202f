"""Readers: IDX (MNIST, Fashion-MNIST), CIFAR's binary format, image folders, CSV, time series."""

from __future__ import annotations

import csv
import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import Arrays

PathLike = str | os.PathLike[str]
_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def _bytes_of(path: PathLike) -> bytes:
    file = Path(path)
    try:
        if file.suffix == ".gz":
            with gzip.open(file, "rb") as opened:
                return opened.read()
        return file.read_bytes()
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def read_idx(path: PathLike) -> NDArray[Any]:
    """An array of an IDX file, gzipped or not, in the machine's byte order.

    Raises ValueError where the file is damaged or of another kind.
    """
    content = _bytes_of(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError(f"{path} is no IDX file")
    rank = content[3]
    if len(content) < 4 + 4 * rank:
        raise ValueError(f"{path} ends in its header")
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    dtype = np.dtype(_IDX_TYPES[content[2]])
    body = content[4 + 4 * rank :]
    wanted = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(body) != wanted:
        raise ValueError(f"{path} holds {len(body)} bytes of data; {list(shape)} takes {wanted}")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def read_idx_images(images: PathLike, labels: PathLike) -> Arrays:
    """Images (N, 1, H, W) as float32 in 0 .. 1, and int32 labels."""
    pixels, numbers = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or numbers.ndim != 1:
        raise ValueError(f"images of shape {pixels.shape} and labels of {numbers.shape} do not fit")
    return Arrays((pixels[:, None] / np.float32(255)).astype(np.float32), numbers.astype(np.int32))


def read_cifar(*paths: PathLike, fine: bool | None = None) -> Arrays:
    """CIFAR-10 (or, where `fine` is given, CIFAR-100) in the binary version: images (N, 3, 32, 32)
    as float32 in 0 .. 1, and int32 labels (`fine` says which of CIFAR-100's two)."""
    head = 1 if fine is None else 2
    rows = []
    for path in paths:
        content = np.frombuffer(_bytes_of(path), np.uint8)
        if content.size == 0 or content.size % (head + 3072):
            raise ValueError(f"{path}: {content.size} bytes are no rows of {head + 3072}")
        rows.append(content.reshape(-1, head + 3072))
    if not rows:
        raise ValueError("name at least one file")
    table = np.concatenate(rows)
    images = table[:, head:].reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255)
    return Arrays(images, table[:, int(bool(fine))].astype(np.int32))


def read_csv(
    path: PathLike, label: str | int = -1, header: bool | None = None, delimiter: str = ","
) -> Arrays:
    """A table of numbers (gzipped or not): features (N, F) as float32, labels as int32.

    Args:
        label: name or number of the label's column.
        header: whether the first line names the columns; None looks at it.

    Raises ValueError with the line where a field is no number.
    """
    lines = _bytes_of(path).decode("utf-8-sig").splitlines()
    table = [row for row in csv.reader(lines, delimiter=delimiter) if row]
    if not table:
        raise ValueError(f"{path} is empty")
    named = header if header is not None else not all(_is_number(f) for f in table[0])
    names, rows = (table[0], table[1:]) if named else ([], table)
    if isinstance(label, str):
        if label not in names:
            raise ValueError(
                f"{path} has no column {label!r}; there are {', '.join(names) or 'none'}"
            )
        column = names.index(label)
    else:
        column = label % len(table[0])
    values = np.empty((len(rows), len(table[0])), np.float64)
    for number, row in enumerate(rows, 1 + int(named)):
        try:
            values[number - 1 - int(named)] = [float(field) for field in row]
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    features = np.delete(values, column, axis=1).astype(np.float32)
    return Arrays(features, values[:, column].astype(np.int32))


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def read_ts(path: PathLike) -> tuple[Arrays, list[str]]:
    """Time series of the .ts format (aeon, UEA archive): series (N, C, T) as float32, int32 labels,
    and the names of the classes. All series must be of one length."""
    classes: list[str] = []
    series, labels, in_data = [], [], False
    for number, line in enumerate(_bytes_of(path).decode("utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.lower().startswith("@classlabel"):
            classes = text.split()[2:]
        elif text.lower().startswith("@data"):
            in_data = True
        elif in_data:
            *channels, name = text.split(":")
            if name not in classes:
                raise ValueError(f"{path}, line {number}: unknown class {name!r}")
            try:
                series.append([[float(v) for v in channel.split(",")] for channel in channels])
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            labels.append(classes.index(name))
    if not series:
        raise ValueError(f"{path} holds no series")
    lengths = {len(channel) for one in series for channel in one}
    if len(lengths) > 1:
        raise ValueError(f"{path} holds series of different lengths: {sorted(lengths)}")
    return Arrays(np.array(series, np.float32), np.array(labels, np.int32)), classes


class ImageFolder:
    """Images in a folder for each class: (3, H, W) as float32 in 0 .. 1 and a label.

    Args:
        root: a folder of folders; their names, sorted, are `classes`.
        size: (height, width) that images are resized to.

    Raises:
        ValueError: there are no images.
    """

    suffixes = (".png", ".jpg", ".jpeg", ".bmp", ".webp")

    def __init__(self, root: PathLike, size: tuple[int, int]) -> None:
        folder = Path(root)
        self.classes = sorted(p.name for p in folder.iterdir() if p.is_dir())
        self.files = [
            (file, number)
            for number, name in enumerate(self.classes)
            for file in sorted((folder / name).iterdir())
            if file.suffix.lower() in self.suffixes
        ]
        if not self.files:
            raise ValueError(f"{folder} holds no folders with images ({', '.join(self.suffixes)})")
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], Any]:
        from PIL import Image

        path, label = self.files[index]
        with Image.open(path) as image:
            resized = image.convert("RGB").resize(self.size[::-1], Image.Resampling.BILINEAR)
        pixels = np.asarray(resized, np.float32).transpose(2, 0, 1) / np.float32(255)
        return np.ascontiguousarray(pixels), np.int32(label)
