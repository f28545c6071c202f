"""Finds the fastest way to compute each convolution of a model on a device: ``dlk tune``.

Every algorithm that a problem may use runs on the device; one that is wrong is left out. What is
faster than the default goes into a file of records that later runs read.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dlk import _core
from dlk._atomic import write_text
from dlk.model import Model

__all__ = [
    "FLOAT_TILES",
    "MODEL_TILES",
    "TILES",
    "Measurement",
    "Problem",
    "algorithms",
    "measure",
    "problems_of",
    "streams_of",
    "tile_family",
    "tune",
]

TILES = {
    "opencl": (
        "128,128,64,3,2,64,64,1", "128,128,32,3,2,64,64,1", "128,64,32,3,2,64,32",
        "64,128,32,3,2,32,64",
        "64,64,64,3,2,32,32", "64,64,32,4,3,32,32", "32,64,64,4,3,16,32", "32,64,64,4,3,32,16",
        "32,64,128,2,1,16,32", "16,64,64,4,3,16,16", "16,64,128,2,1,16,16",
        "128,256,64,4,2,16,256", "128,128,64,4,2,16,128", "128,128,64,3,1,16,128",
        "256,128,64,4,2,16,128", "64,128,64,4,2,16,128", "64,64,64,4,2,16,64",
        "128,64,64,4,2,16,64", "64,128,64,2,1,16,128", "16,64,128,3,2,16,16",
        "16,64,128,4,3,16,16", "32,64,128,3,2,16,32", "32,64,64,4,3,16,16", "64,64,64,6,5,16,64",
    ),
    "import": (
        "128,128,64,3,2,64,64,1", "128,128,32,3,2,64,32", "128,64,64,2,1,32,32",
        "128,64,32,4,3,32,32",
        "64,128,32,4,3,32,32", "64,64,64,3,2,32,32", "64,64,64,3,2,32,16", "64,64,64,3,2,16,16",
        "64,64,32,2,1,32,32", "64,64,32,3,2,32,16", "32,64,64,4,3,16,32", "32,64,64,4,3,16,16",
        "32,64,128,2,1,16,16", "32,64,64,2,1,16,32", "16,64,64,4,3,16,16", "16,64,128,2,1,16,16",
        "16,64,64,2,1,16,16", "64,128,64,2,1,16,128", "128,64,64,2,1,16,64", "64,64,64,3,1,16,64",
        "16,64,128,3,2,16,16", "16,64,128,4,3,16,16", "32,64,128,3,2,16,32", "64,64,64,6,5,16,64",
        "64,128,64,4,2,16,128", "128,128,64,4,2,16,128",
    ),
    "vulkan": (
        "128,128,64,1,1,64,64", "128,128,32,2,1,64,64", "128,64,32,2,1,32,64",
        "64,64,64,2,1,32,32", "64,64,64,1,1,32,32", "64,64,32,2,1,32,32", "64,64,128,1,1,32,32",
        "32,64,64,2,1,16,32", "32,64,128,1,1,16,32", "16,64,64,2,1,16,16", "16,64,128,1,1,16,16",
    ),
}  # fmt: skip
"""Tiles of the matrix units to try by `tile_family`: BM,BN,BK,STAGES,AHEAD,TM,TN of conv_mma,
and FORM where it is not 0."""
FLOAT_TILES = (
    "128,128,16,2,1,16,8", "256,128,16,2,1,16,8", "128,128,16,2,1,8,8", "64,128,16,2,1,8,8",
    "128,64,16,2,1,8,8", "64,64,16,2,1,8,4", "64,64,16,4,3,4,4", "128,256,32,2,1,8,16,2",
    "128,128,32,2,1,16,8,2", "128,256,16,2,1,8,16,2", "128,128,16,2,1,8,16", "128,256,16,2,1,16,8",
    "128,128,8,2,1,16,8", "64,64,16,2,1,8,8", "64,64,32,2,1,8,8", "64,64,32,2,1,4,4",
    "128,128,16,3,2,8,8", "128,64,16,4,3,8,8", "64,128,16,3,2,8,8", "64,64,16,4,3,8,4",
    "128,64,16,3,2,8,4",
)  # fmt: skip
"""The same in float32, where PTX is run: tiles in registers with asynchronous copies. With two
stages the left side is turned on its way to local memory. The cost model's own come first."""
MODEL_TILES = {
    "float16": (
        "256,128,64,4,2,16,128", "128,256,64,4,2,16,256", "128,128,64,3,1,16,128",
        "64,128,64,2,1,16,128", "128,64,64,4,2,16,64", "128,128,64,3,2,64,64,1",
        "128,128,32,3,2,64,64,1", "64,64,64,3,2,32,32", "32,64,64,4,3,16,32", "16,64,64,4,3,16,16",
        "32,64,128,3,2,16,32", "16,64,128,3,2,16,16", "128,128,64,4,2,16,128",
        "64,128,64,4,2,16,128", "32,64,64,4,3,16,16", "128,64,64,2,1,16,64",
    ),
    "float32": FLOAT_TILES[:7],
}  # fmt: skip
"""Those among which the cost model of core/ops/conv_mma.cpp chooses where PTX is run."""
SLICES = (1, 2, 4, 8, 16)
FEW, MANY = 24, 1056
"""Groups of a tile, with its slices, that are worth a try."""
STREAMS = (1, 2)
"""Groups a compute unit of stream-K, which share the steps of all tiles."""
LEAST_STREAMED, LEAST_SHARE, MOST_WAVES = 64 * 64, 4, 4
"""Results of a tile, steps of a group, and waves of whole tiles that make a stream worth a try."""
LEAST_TAPS, MOST_SPAN = 9, 64
"""Windows for which Fourier transforms are worth a try."""
GAIN = 0.97
"""A record is kept for what takes at most this share of the default's time."""
TOLERANCE = {"float32": 1e-4, "float16": 5e-3}
"""On ||a-b|| / ||b|| against NumPy; algorithms that are wrong are wrong by far more."""


def tile_family(caps: dict[str, Any]) -> str:
    """The key of `TILES` for a device: its backend, or "import" for Vulkan that runs PTX."""
    ptx = caps["binary_import"] and os.environ.get("DLK_MATRIX_UNITS") != "coopmat"
    return "import" if ptx else str(caps["backend"])


@dataclass(frozen=True)
class Problem:
    """A convolution: sizes of input, filters and window, and the dtype of its weights."""

    batch: int
    channels: int
    height: int
    width: int
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    groups: int
    dtype: str

    @classmethod
    def parse(cls, key: str) -> Problem:
        """What the engine calls a problem (``DLK_CONV_KEYS``)."""
        *numbers, dtype = key.strip().split(",")
        n, c, h, w, k, kh, kw, sh, sw, ph, pw, g = (int(text) for text in numbers)
        return cls(n, c, h, w, k, (kh, kw), (sh, sw), (ph, pw), g, dtype)

    @property
    def key(self) -> str:
        """The inverse of `parse`."""
        numbers = (self.batch, self.channels, self.height, self.width, self.filters, *self.kernel,
                   *self.stride, *self.pad, self.groups)  # fmt: skip
        return ",".join(map(str, numbers)) + "," + self.dtype

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of the result."""
        sizes = zip((self.height, self.width), self.kernel, self.stride, self.pad, strict=True)
        h, w = ((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)
        return h, w

    @lru_cache(maxsize=2)  # noqa: B019 - few, and used one after another
    def graph(self) -> tuple[_core.Graph, dict[str, Any], Any]:
        """A graph of this convolution with bias and ReLU, its input, and NumPy's first image."""
        rng = np.random.default_rng(1)
        n, c, h, w, k = self.batch, self.channels, self.height, self.width, self.filters
        depth = c // self.groups
        shape = (k, depth, *self.kernel)
        half = self.dtype == "float16"
        x = rng.standard_normal((n, h, w, c)).astype(self.dtype)
        scale = 1 / np.sqrt(depth * self.kernel[0] * self.kernel[1])
        weight = (rng.standard_normal(shape) * scale).astype(self.dtype)
        bias = rng.standard_normal(k).astype(self.dtype)
        graph = _core.Graph()
        value = graph.add_input("x", "float16" if half else "float32", [n, h, w, c])
        value = graph.add_node("Transpose", [value], {"perm": [0, 3, 1, 2]})[0]
        inputs = [value, graph.add_constant("w", weight), graph.add_constant("b", bias)]
        value = graph.add_node(
            "Conv", inputs,
            {"kernel_shape": list(self.kernel), "strides": list(self.stride),
             "pads": [*self.pad, *self.pad], "group": self.groups},
        )[0]  # fmt: skip
        value = graph.add_node("Relu", [value])[0]
        value = graph.add_node("Transpose", [value], {"perm": [0, 2, 3, 1]})[0]
        graph.add_output(value, "y")
        return graph, {"x": x}, np.maximum(self._numpy(x[:1], weight) + bias, 0)

    def _numpy(self, x: Any, weight: Any) -> Any:
        (ph, pw), (sh, sw), (oh, ow) = self.pad, self.stride, self.output
        padded = np.pad(x.astype(np.float32), ((0, 0), (ph, ph), (pw, pw), (0, 0)))
        depth, share = self.channels // self.groups, self.filters // self.groups
        want = np.zeros((1, oh, ow, self.filters), np.float32)
        for g in range(self.groups):
            inputs = slice(g * depth, (g + 1) * depth)
            outputs = slice(g * share, (g + 1) * share)
            for i in range(self.kernel[0]):
                for j in range(self.kernel[1]):
                    part = padded[:, i : i + sh * oh : sh, j : j + sw * ow : sw, inputs]
                    want[..., outputs] += part @ weight[outputs, :, i, j].astype(np.float32).T
        return want


@dataclass(frozen=True)
class Measurement:
    """One algorithm on one problem; `microseconds` is infinite where `error` says why."""

    algorithm: str
    microseconds: float
    error: str = ""


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def problems_of(model: Model, inputs: dict[str, Any]) -> list[Problem]:
    """The convolutions, and the products with constant weights, of a model for these inputs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys"
        with _environment("DLK_CONV_KEYS", str(path)):
            fresh = Model(model.graph, model.device, model.dtype)
            fresh.plan(inputs)
        keys = path.read_text().split() if path.exists() else []
    return [Problem.parse(key) for key in dict.fromkeys(keys)]


def streams_of(tile: str, tiles: int, depth: int, units: int) -> list[str]:
    """Stream-K with a tile on `units` compute units, for a product of so many tiles and that depth:
    where whole tiles would leave units idle."""
    rows, columns, step = (int(size) for size in tile.split(",")[:3])
    if rows * columns < LEAST_STREAMED:
        return []
    return [
        f"mma:{tile}:stream{count}"
        for count in STREAMS
        if tiles % (units * count) != 0
        and tiles <= MOST_WAVES * units * count
        and tiles * -(-depth // step) >= LEAST_SHARE * units * count
    ]


def algorithms(problem: Problem, family: str, is_cpu: bool, units: int) -> list[str]:
    """What may compute a problem on a device of `units` compute units, the default ("") first."""
    result = [""]
    taps = problem.kernel[0] * problem.kernel[1]
    if not is_cpu and taps >= LEAST_TAPS and max(problem.kernel) <= MOST_SPAN:
        result.append("fft")
    if problem.groups == problem.channels == problem.filters:
        return result
    if problem.groups == 1 and problem.kernel == (3, 3) and problem.stride == (1, 1):
        result += ["winograd2", "winograd4"]
    if problem.groups == 1 and problem.kernel == (5, 5) and problem.stride == (1, 1):
        result.append("winograd2")
    if is_cpu:
        return [*result, "block"]
    result.append("gemm")
    floats = FLOAT_TILES if family in ("opencl", "import") else ()
    tiles = floats if problem.dtype == "float32" else TILES.get(family, ())
    if problem.dtype in ("float16", "float32"):
        pixels = problem.batch * problem.output[0] * problem.output[1]
        depth = problem.channels // problem.groups * taps
        for tile in tiles:
            rows, columns, step = (int(size) for size in tile.split(",")[:3])
            groups = -(-pixels // rows) * -(-problem.filters // columns)
            counts = [c for c in SLICES if c == 1 or depth >= 2 * c * step]
            # Neither a few groups where more could share the work, nor far more than can run.
            counts = [c for c in counts if FEW <= groups * c <= MANY or c == counts[-1]]
            if (rows >= 2 * pixels and rows > 16) or columns >= 2 * problem.filters > 64:
                continue
            result += [f"mma:{tile}:{c}" for c in counts if groups * c <= MANY or c == 1]
            result += streams_of(tile, groups, depth, units)
    return result


def measure(
    problem: Problem, device: _core.Device, algorithm: str, seconds: float = 0.1
) -> Measurement:
    """The device's time of one run, median of several, after a comparison with NumPy."""
    graph, feed, want = problem.graph()
    with _environment("DLK_CONV_ALGO", algorithm):
        try:
            session = _core.Model(graph, device, dtype=problem.dtype).create_session()
            got = session.run(feed)["y"][:1].astype(np.float32)
        except (RuntimeError, ValueError, NotImplementedError, MemoryError) as error:
            return Measurement(algorithm, float("inf"), f"{type(error).__name__}: {error}"[:300])
    distance = float(np.linalg.norm(got - want) / max(float(np.linalg.norm(want)), 1e-30))
    if not distance < TOLERANCE[problem.dtype]:
        return Measurement(algorithm, float("inf"), f"wrong: relative error {distance:.1e}")
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - start < seconds and len(times) < 50):
        times.append(sum(ns for _, ns in session.profile(feed)) / 1e3)
    return Measurement(algorithm, statistics.median(times))


def default_records() -> Path:
    """The file that the engine reads: ``DLK_TUNING``, else ``tuning.tsv`` in the cache folder."""
    setting = os.environ.get("DLK_TUNING")
    return Path(setting) if setting else Path(_core.cache_directory()) / "tuning.tsv"


def tune(
    model: Model,
    inputs: dict[str, Any],
    *,
    seconds: float = 0.1,
    records: Path | None = None,
    progress: Callable[[Problem, list[Measurement]], None] | None = None,
) -> dict[str, str]:
    """Measures every problem of a model and keeps what beats the default.

    Args:
        inputs: host arrays by input name; their shapes are what is tuned for.
        seconds: for each algorithm on each problem.
        records: the file to add to; None: the one that the engine reads.
        progress: called with each problem and its measurements.

    Returns:
        The algorithm of each problem that got a record, by the problem's key.
    """
    caps, device = model.device.caps, model.device.handle
    label = f"{caps['backend']} {caps['name']}"
    found: dict[str, str] = {}
    for problem in problems_of(model, inputs):
        with _environment("DLK_TUNING", os.devnull):  # the default is the cost model's choice
            results = [
                measure(problem, device, algorithm, seconds)
                for algorithm in algorithms(
                    problem, tile_family(caps), caps["is_cpu"], caps["compute_units"]
                )
            ]
        if progress:
            progress(problem, results)
        best = min(results, key=lambda m: m.microseconds)
        if best.algorithm and best.microseconds <= GAIN * results[0].microseconds:
            found[problem.key] = best.algorithm
        else:
            found[problem.key] = ""
        # At once: what is interrupted keeps what it has found.
        _write(records or default_records(), label, found)
    return {key: algorithm for key, algorithm in found.items() if algorithm}


def _write(path: Path, label: str, found: dict[str, str]) -> None:
    """New records replace old ones of the same device and problem."""
    lines: dict[str, str] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            key, _, algorithm = line.rpartition("\t")
            lines[key] = algorithm
    for key, algorithm in found.items():
        if algorithm:
            lines[f"{label}\t{key}"] = algorithm
        else:
            lines.pop(f"{label}\t{key}", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(f"{key}\t{value}\n" for key, value in sorted(lines.items())))
