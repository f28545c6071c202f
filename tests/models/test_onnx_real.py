"""The nine "real" networks that the onnx package ships in light form: their own structure, weights
filled with constants; inputs and expected outputs as its backend tests have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from dlk.importers.onnx import load_graph
from onnx import numpy_helper

from .common import run

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
NETWORKS = sorted(path.stem for path in LIGHT.glob("*.onnx"))


def test_all_are_there() -> None:
    assert len(NETWORKS) == 9


@pytest.mark.parametrize("name", NETWORKS)
def test_light_network(name: str, device: Any) -> None:
    graph = load_graph(LIGHT / f"{name}.onnx")
    (value,) = graph.inputs
    shape = [int(d or 1) for d in value.shape or ()]
    count = int(np.prod(shape))
    x = (np.arange(count).reshape(shape) / count).astype(np.float32)
    expected = numpy_helper.to_array(onnx.load_tensor(str(LIGHT / f"{name}_output_0.pb")))
    result = run(graph, device, {value.name: x})[graph.output_names[0]]
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-7)
