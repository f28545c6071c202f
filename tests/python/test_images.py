"""Photographs: decoding, orientation, preprocessing, and files that are no images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dlk import _core
from dlk.images import Preprocessing, load_image, prepare
from PIL import Image

from .nets import png


def gradient(width: int, height: int) -> Image.Image:
    rows = np.arange(height, dtype=np.uint8)[:, None, None]
    columns = np.arange(width, dtype=np.uint8)[None, :, None]
    return Image.fromarray(np.concatenate([rows + 0 * columns, columns + 0 * rows,
                                           rows + columns], axis=2))  # fmt: skip


def test_defaults_only_scale() -> None:
    picture = gradient(5, 3)
    result = prepare(picture, "{}")
    assert result.shape == (1, 3, 3, 5)
    assert result.dtype == np.float32
    want = np.asarray(picture, np.float64).transpose(2, 0, 1)[None] / 255
    np.testing.assert_allclose(result, want, rtol=1e-6)


def test_normalization_layout_and_color() -> None:
    picture = gradient(4, 4)
    steps = {"color": "BGR", "range": [0, 255], "mean": [1, 2, 3], "std": 2, "layout": "NHWC"}
    result = prepare(picture, json.dumps(steps))
    want = (np.asarray(picture, np.float64)[:, :, ::-1] - [1, 2, 3]) / 2
    np.testing.assert_allclose(result[0], want, rtol=1e-6)
    assert prepare(picture, json.dumps(steps), "float16").dtype == np.float16


def test_grey() -> None:
    assert prepare(gradient(4, 4), '{"color": "L"}').shape == (1, 1, 4, 4)


@pytest.mark.parametrize(
    ("size", "want"), [((100, 50), (64, 32)), ((50, 100), (32, 64)), ((33, 33), (32, 32))]
)
def test_resize_short(size: tuple[int, int], want: tuple[int, int]) -> None:
    result = prepare(Image.new("RGB", size), '{"resize_short": 32}')
    assert result.shape[2:] == (want[1], want[0])


def test_resize_and_crop() -> None:
    picture = gradient(7, 9)
    assert prepare(picture, '{"resize": [4, 6]}').shape[2:] == (4, 6)
    cropped = prepare(picture, '{"crop": [3, 5], "range": [0, 255]}')
    want = np.asarray(picture, np.float32)[3:6, 1:6].transpose(2, 0, 1)[None]
    np.testing.assert_allclose(cropped, want, rtol=1e-6)


def test_crop_of_a_small_image_pads_with_black() -> None:
    result = prepare(Image.new("RGB", (2, 2), (255, 255, 255)), '{"crop": 4}')
    np.testing.assert_allclose(result[0, 0, 1:3, 1:3], 1.0, rtol=1e-6)
    assert result.sum() == pytest.approx(12, rel=1e-5)


def test_matches_the_reference_preparation() -> None:
    """Pillow's bilinear resize of the short side and a centre crop, as torchvision does it."""
    picture = gradient(40, 30)
    steps = '{"resize_short": 16, "crop": 12, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}'
    small = picture.resize((21, 16), Image.Resampling.BILINEAR).crop((4, 2, 16, 14))
    want = (np.asarray(small, np.float64) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(prepare(picture, steps)[0], want.transpose(2, 0, 1), atol=1e-6)


def test_orientation(tmp_path: Path) -> None:
    picture = Image.new("RGB", (6, 4))
    picture.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    path = tmp_path / "turned.png"
    picture.save(path, exif=exif)
    turned = load_image(path)
    assert turned.size == (4, 6)
    assert turned.getpixel((3, 0)) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_modes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new(mode, (4, 4)).save(path)
    result = prepare(load_image(path), "{}")
    assert result.shape == (1, 3, 4, 4)
    assert np.isfinite(result).all()


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"unknown": 1}',
        '{"color": "CMYK"}',
        '{"layout": "CHWN"}',
        '{"interpolation": "magic"}',
        '{"resize_short": 0}',
        '{"resize_short": "big"}',
        '{"resize_short": 8, "resize": [8, 8]}',
        '{"crop": [1, 2, 3]}',
        '{"crop": 1e9}',
        '{"mean": [1, 2]}',
        '{"std": 0}',
        '{"range": 3}',
    ],
)
def test_wrong_preprocessing(text: str) -> None:
    with pytest.raises(ValueError, match="preprocessing"):
        Preprocessing.from_json(text)


def test_json_round_trip() -> None:
    steps = Preprocessing(resize_short=256, crop=(224, 224), mean=(0.5,), std=(0.2,))
    assert Preprocessing.from_json(steps.to_json()) == steps


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", png()[:60]])
def test_files_that_are_no_images(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"photo\.png"):
        load_image(path)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "missing.png")
    with pytest.raises(IsADirectoryError):
        load_image(tmp_path)


def test_huge_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (20000, 6000)).save(path)
    with pytest.raises(ValueError, match="pixels"):
        load_image(path)


@pytest.mark.parametrize(
    "steps",
    [
        '{"resize_short": 32, "crop": 24, "mean": [0.4, 0.5, 0.6], "std": 0.25}',
        '{"resize": [17, 90], "interpolation": "bicubic", "color": "BGR", "range": [0, 255]}',
        '{"resize_short": 61, "interpolation": "lanczos", "layout": "NHWC"}',
        '{"resize": [9, 9], "interpolation": "nearest"}',
        '{"crop": [80, 10], "color": "L"}',
    ],
)
def test_cpp_programs_prepare_the_same_numbers(steps: str) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (47, 61, 3), dtype=np.uint8)
    in_cpp = _core.prepare_image(steps, pixels)
    in_python = prepare(Image.fromarray(pixels), steps)
    assert in_cpp.shape == in_python.shape
    scale = 255.0 if "255" in steps else 1.0
    np.testing.assert_allclose(in_cpp, in_python, rtol=1e-5, atol=1e-6 * scale)
