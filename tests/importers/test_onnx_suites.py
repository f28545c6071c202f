"""Models of old opsets keep their meaning: what the importer made of them is written back as newest
ONNX and run by onnxruntime, against the outputs that the onnx package ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import onnxruntime
import pytest
from dlk.exporters.onnx import to_onnx
from dlk.importers.onnx import load_graph
from onnx import numpy_helper

DATA = Path(onnx.backend.test.__file__).parent / "data"
SUITES = ("simple", "pytorch-operator", "pytorch-converted")
# Not here: test_gradient_*, a preview domain that onnxruntime does not run either, and
# test_strnorm_*, for which it wants the system to have locales.
MODELS = sorted(
    path.parent
    for suite in SUITES
    for path in (DATA / suite).glob("*/model.onnx")
    if not any(word in path.parent.name for word in ("gradient", "strnorm"))
)


def read_tensors(folder: Path, kind: str) -> list[np.ndarray]:
    files = sorted(folder.glob(f"{kind}_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
    return [numpy_helper.to_array(onnx.load_tensor(str(path))) for path in files]


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, feeds)


@pytest.mark.parametrize("folder", MODELS, ids=[m.name for m in MODELS])
def test_meaning_is_kept(folder: Path) -> None:
    path = folder / "model.onnx"
    graph = load_graph(path)
    inputs = read_tensors(folder / "test_data_set_0", "input")
    expected = read_tensors(folder / "test_data_set_0", "output")
    feeds = {value.name: array for value, array in zip(graph.inputs, inputs, strict=True)}
    results = run(to_onnx(graph, opset=21), feeds)
    assert len(results) == len(expected)
    for ours, theirs in zip(results, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
