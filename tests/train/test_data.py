"""Readers on small files that the tests write, loaders and augmentation."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from dlk import data


def _idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_idx(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 4, 3), np.uint8)
    labels = np.arange(5, dtype=np.uint8)
    (tmp_path / "images.gz").write_bytes(gzip.compress(_idx(images)))
    (tmp_path / "labels").write_bytes(_idx(labels))
    found = data.read_idx_images(tmp_path / "images.gz", tmp_path / "labels")
    x, y = found[2]
    np.testing.assert_allclose(x[0] * 255, images[2], rtol=1e-6)
    assert int(y) == 2
    assert x.shape == (1, 4, 3)


@pytest.mark.parametrize("damage", [b"", b"\0\0\x08\x03\0\0", b"\1\0\x08\x01\0\0\0\x02ab", b"PK"])
def test_damaged_idx(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(damage)
    with pytest.raises(ValueError, match="x"):
        data.read_idx(path)
    whole = _idx(np.zeros((2, 3), np.uint8))
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="5 bytes of data"):
        data.read_idx(path)
    (tmp_path / "y.gz").write_bytes(gzip.compress(whole)[:-6])
    with pytest.raises(ValueError, match="damaged"):
        data.read_idx(tmp_path / "y.gz")


def test_cifar(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (4, 3073), np.uint8)
    (tmp_path / "batch.bin").write_bytes(rows.tobytes())
    found = data.read_cifar(tmp_path / "batch.bin")
    assert found.arrays[0].shape == (4, 3, 32, 32)
    np.testing.assert_array_equal(found.arrays[1], rows[:, 0])
    (tmp_path / "bad.bin").write_bytes(rows.tobytes()[:-1])
    with pytest.raises(ValueError, match="no rows of 3073"):
        data.read_cifar(tmp_path / "bad.bin")


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,kind\n1,2.5,0\n3,4,1\n")
    found = data.read_csv(path, label="kind")
    np.testing.assert_array_equal(found.arrays[0], [[1, 2.5], [3, 4]])
    np.testing.assert_array_equal(found.arrays[1], [0, 1])
    path.write_text("1,2,0\n1,x,1\n")
    with pytest.raises(ValueError, match="line 2"):
        data.read_csv(path)
    with pytest.raises(ValueError, match="no column 'kind'"):
        data.read_csv(path, label="kind")


def test_time_series(tmp_path: Path) -> None:
    path = tmp_path / "t.ts"
    path.write_text("@problemName x\n@classLabel true run walk\n@data\n1,2:3,4:walk\n5,6:7,8:run\n")
    found, classes = data.read_ts(path)
    assert classes == ["run", "walk"]
    assert found.arrays[0].shape == (2, 2, 2)
    np.testing.assert_array_equal(found.arrays[1], [1, 0])
    path.write_text("@classLabel true run\n@data\n1,2:swim\n")
    with pytest.raises(ValueError, match="line 3: unknown class 'swim'"):
        data.read_ts(path)


def test_image_folder(tmp_path: Path) -> None:
    from PIL import Image

    for name, level in (("dark", 10), ("light", 250)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 7), (level, level, level)).save(tmp_path / name / "one.png")
    folder = data.ImageFolder(tmp_path, (4, 6))
    assert folder.classes == ["dark", "light"]
    assert len(folder) == 2
    image, label = folder[1]
    assert image.shape == (3, 4, 6)
    assert int(label) == 1
    assert image.min() > 0.9
    with pytest.raises(ValueError, match="no folders with images"):
        data.ImageFolder(tmp_path / "dark", (4, 4))


def test_loader_order_depends_on_seed_and_epoch_alone() -> None:
    source = data.Arrays(np.arange(10))

    def order(epoch: int, first: int = 0, workers: int = 0) -> list[int]:
        loader = data.DataLoader(source, 3, shuffle=True, seed=4, workers=workers)
        loader.start(epoch, first)
        return [int(v) for (batch,) in loader for v in batch]

    assert sorted(order(0)) == list(range(10))
    assert order(0) == order(0) == order(0, workers=2)
    assert order(0) != order(1)
    assert order(1, 2) == order(1)[6:]
    loader = data.DataLoader(source, 3, drop_last=True)
    assert len(loader) == 3 == len(list(loader))


def test_augmentation_is_reproducible() -> None:
    images = np.random.default_rng(0).random((6, 3, 8, 8)).astype(np.float32)
    source = data.Arrays(images, np.arange(6))
    change = data.Compose(
        data.random_crop((8, 8), padding=2), data.random_flip(), data.color_jitter(),
        data.normalize([0.5] * 3, [0.25] * 3),
    )  # fmt: skip

    def batches(workers: int) -> list[np.ndarray]:
        loader = data.DataLoader(source, 2, seed=1, transform=change, workers=workers)
        return [x for x, _ in loader]

    here, there = batches(0), batches(2)
    for a, b in zip(here, there, strict=True):
        np.testing.assert_array_equal(a, b)
    assert here[0].shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match="does not fit"):
        data.random_crop((9, 9))(images[0], np.random.default_rng(0))


def test_torch_data_sets_and_errors_of_samples() -> None:
    source = torch.utils.data.TensorDataset(torch.arange(5.0), torch.arange(5))
    batches = list(data.DataLoader(source, 2))
    np.testing.assert_array_equal(np.concatenate([b[0] for b in batches]), np.arange(5.0))

    class Broken:
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[np.ndarray]:
            if index == 2:
                raise RuntimeError("sample 2 is broken")
            return (np.zeros(2),)

    with pytest.raises(RuntimeError, match="sample 2"):
        list(data.DataLoader(Broken(), 2))


def test_split() -> None:
    first, second = data.split(data.Arrays(np.arange(10)), 6, 3, seed=1)
    values = [int(part[i][0]) for part in (first, second) for i in range(len(part))]
    assert len(set(values)) == 9
    with pytest.raises(ValueError, match="there are 10"):
        data.split(data.Arrays(np.arange(10)), 11)
