"""Photographs in: loading with Pillow, and preparing them as a model's `preprocessing` says.

The steps and their JSON form are described in docs/model-format.md; C++ programs take the same.
"""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_PIXELS", "Preprocessing", "load_image", "prepare"]

MAX_PIXELS = 100_000_000
"""Larger images are refused: 300 MB of RGB."""

_FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
_CHANNELS = {"RGB": 3, "BGR": 3, "L": 1}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a photograph becomes the network's input; see docs/model-format.md for each field."""

    input: str = ""
    color: str = "RGB"
    resize_short: int | None = None
    resize: tuple[int, int] | None = None
    interpolation: str = "bilinear"
    crop: tuple[int, int] | None = None
    range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "NCHW"

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Reads the JSON form.

        Raises:
            ValueError: not JSON, unknown keys, or values that make no sense.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"preprocessing is not JSON: {error}") from None
        if not isinstance(data, dict):
            raise ValueError("preprocessing is not a JSON object")
        unknown = set(data) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"preprocessing has unknown keys: {', '.join(sorted(unknown))}")
        try:
            return cls._checked(data)
        except (TypeError, KeyError, OverflowError) as error:
            raise ValueError(f"preprocessing has a value of the wrong kind: {error}") from None

    @classmethod
    def _checked(cls, data: dict[str, Any]) -> Preprocessing:
        values = {**data}
        if data.get("crop") is not None:
            crop = data["crop"]
            values["crop"] = _pair(crop) if isinstance(crop, list) else (int(crop), int(crop))
        if data.get("resize") is not None:
            values["resize"] = _pair(data["resize"])
        for key in ("range", "mean", "std"):
            if key in data:
                numbers = data[key] if isinstance(data[key], list) else [data[key]]
                values[key] = tuple(float(n) for n in numbers)
        made = cls(**values)
        short = () if made.resize_short is None else (made.resize_short,)
        sizes = [*short, *(made.resize or ()), *(made.crop or ())]
        per_channel = (1, _CHANNELS[made.color]) if made.color in _CHANNELS else ()
        problems = {
            "color": made.color not in _CHANNELS,
            "interpolation": made.interpolation not in _FILTERS,
            "layout": made.layout not in ("NCHW", "NHWC"),
            "range": len(made.range) != 2,
            "resize_short": made.resize is not None and made.resize_short is not None,
            "a size": not all(isinstance(s, int) and 1 <= s <= 16384 for s in sizes),
            "mean": len(made.mean) not in per_channel,
            "std": len(made.std) not in per_channel or any(s == 0 for s in made.std),
        }
        wrong = [key for key, bad in problems.items() if bad]
        if wrong:
            raise ValueError(f"preprocessing: {', '.join(wrong)} makes no sense")
        return made

    def to_json(self) -> str:
        """The JSON form, without fields that have their default value."""
        default = Preprocessing()
        fields = dataclasses.asdict(self)
        return json.dumps({k: v for k, v in fields.items() if v != getattr(default, k)})


def _pair(values: Any) -> tuple[int, int]:
    if not isinstance(values, list) or len(values) != 2:
        raise ValueError(f"preprocessing: {values!r} is not [height, width]")
    return int(values[0]), int(values[1])


def load_image(path: str | os.PathLike[str]) -> Image.Image:
    """Decodes a photograph and turns it as its EXIF orientation says; 8 bits a channel.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: it is not an image, is damaged, or has more than MAX_PIXELS pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = os.fspath(path)
    if Path(path).is_dir():
        raise IsADirectoryError(21, "is a folder, not an image", name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            opened = Image.open(path)
        with opened as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"{name} has {image.width} x {image.height} pixels; at most {MAX_PIXELS} are "
                    "read: make it smaller"
                )
            image.load()
            turned = ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not an image that Pillow reads (PNG, JPEG, ...)") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{name} is too large; at most {MAX_PIXELS} pixels are read") from None
    except (SyntaxError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{name} is a damaged image: {error}") from None
    if turned.mode in ("I;16", "I;16B", "I;16L", "I"):  # 16-bit grey
        grey = np.asarray(turned).astype(np.float64) / 257.0
        turned = Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))
    return turned


def prepare(
    image: Image.Image | str | os.PathLike[str],
    preprocessing: Preprocessing | str,
    dtype: str = "float32",
) -> NDArray[Any]:
    """The network's input for one photograph: ``(1, C, H, W)`` or ``(1, H, W, C)``.

    Args:
        image: an image or a path.
        preprocessing: the steps, or their JSON form (``graph.info.preprocessing``).
        dtype: of the result.

    Raises:
        ValueError: the image or the preprocessing is wrong.
    """
    from PIL import Image

    steps = (
        Preprocessing.from_json(preprocessing) if isinstance(preprocessing, str) else preprocessing
    )
    picture = image if isinstance(image, Image.Image) else load_image(image)
    picture = _flatten(picture, "L" if steps.color == "L" else "RGB")
    size = _target_size(picture.size, steps)
    if size != picture.size:
        resampling = Image.Resampling[steps.interpolation.upper()]
        # The width first: versions of Pillow differ in which side they take first.
        picture = picture.resize((size[0], picture.height), resampling).resize(size, resampling)
    if steps.crop is not None:
        picture = _crop(picture, *steps.crop)
    pixels = np.asarray(picture, np.float32)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if steps.color == "BGR":
        pixels = pixels[:, :, ::-1]
    low, high = steps.range
    with np.errstate(over="ignore", invalid="ignore"):  # whoever uses the result sees infinities
        scaled = pixels * np.float32((high - low) / 255.0) + np.float32(low)
        result = (scaled - np.asarray(steps.mean, np.float32)) / np.asarray(steps.std, np.float32)
    if steps.layout == "NCHW":
        result = result.transpose(2, 0, 1)
    return np.ascontiguousarray(result[None]).astype(dtype)


def _flatten(picture: Image.Image, mode: str) -> Image.Image:
    """Drops alpha (over nothing: the colour stays) and converts the colour."""
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA")
    return picture if picture.mode == mode else picture.convert(mode)


def _target_size(size: tuple[int, int], steps: Preprocessing) -> tuple[int, int]:
    """(width, height) after the resize step."""
    width, height = size
    if steps.resize is not None:
        return steps.resize[1], steps.resize[0]
    if steps.resize_short is None:
        return size
    short = steps.resize_short
    if width <= height:
        return short, max(1, int(short * height / width))
    return max(1, int(short * width / height)), short


def _crop(picture: Image.Image, height: int, width: int) -> Image.Image:
    """The centre; outside of the picture it is black."""
    left = round((picture.width - width) / 2)
    top = round((picture.height - height) / 2)
    return picture.crop((left, top, left + width, top + height))
