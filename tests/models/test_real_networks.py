"""Real pretrained networks against what another engine computed from the same files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dlk import images, zoo
from dlk.importers.onnx import load_graph

from .common import IMAGES, reference, relative_error, run
from .packages import FILES, network_file

# Outputs whose order in the file is not that of the reference are found by position: out0, out1...
LIMIT = 1e-4


def feeds_of(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k.removeprefix("in_"): v for k, v in data.items() if k == "x" or k.startswith("in_")}


def network(name: str) -> tuple[Any, dict[str, np.ndarray]]:
    """The graph of an ONNX network, and the inputs of its reference."""
    feeds = feeds_of(reference(name))
    shapes = {}
    if name == "centerface":  # its file fixes a batch of ten 32x32 images
        feeds = {"input.1": feeds["x"]}
        shapes = {"input.1": ("N", 3, "H", "W")}
    return load_graph(network_file(name), input_shapes=shapes), feeds


def network_errors(name: str, device: Any, dtype: str = "float32") -> dict[str, float]:
    """Relative error of each output of an ONNX network."""
    graph, feeds = network(name)
    results = run(graph, device, feeds, dtype=dtype)
    expected = {k: v for k, v in reference(name).items() if k.startswith("out")}
    assert len(expected) == len(graph.output_names)
    return {
        output: relative_error(results[output], expected[f"out{index}"])
        for index, output in enumerate(graph.output_names)
    }


@pytest.mark.parametrize("name", sorted(FILES))
def test_onnx_network(name: str, device: Any) -> None:
    for output, error in network_errors(name, device).items():
        assert error < LIMIT, output


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("efficientnet_lite0", "efficientnet_lite0_coffee"),
        ("mobilenet_v2", "mobilenet_v2_tv_coffee"),
    ],
)
def test_logits(name: str, file: str, device: Any) -> None:
    data = reference(file)
    graph = zoo.build(name)
    result = run(graph, device, {"image": data["x"]})["logits"]
    assert relative_error(result, data["logits"]) < LIMIT
    half = run(graph, device, {"image": data["x"]}, dtype="float16")["logits"]
    assert relative_error(half, data["logits"]) < 2e-2


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    return shifted / shifted.sum()


@pytest.mark.parametrize(
    ("name", "image", "label", "score", "tolerance"),
    [
        ("efficientnet_lite0", "coffee.png", "espresso", 0.957, 0.002),
        ("mobilenet_v2", "coffee.png", "espresso", 0.992, 0.002),
        ("mobilenet_v2", "chelsea.png", "Egyptian cat", 0.714, 0.01),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_photograph(
    name: str, image: str, label: str, score: float, tolerance: float, dtype: str, device: Any
) -> None:
    graph = zoo.build(name)
    x = images.prepare(IMAGES / image, graph.info.preprocessing)
    scores = softmax(run(graph, device, {"image": x}, dtype=dtype)["logits"][0])
    best = int(scores.argmax())
    assert graph.info.labels[best] == label
    limit = tolerance if dtype == "float32" else max(tolerance, 0.01)
    assert abs(float(scores[best]) - score) <= limit
