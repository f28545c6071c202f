"""What is run often is one kernel on CPU drivers of OpenCL (`DLK_CHAIN`): with the same results."""

from __future__ import annotations

from typing import Any

import dlk
import numpy as np
import pytest


def _runs(graph: Any, device_id: str, dtype: str) -> list[Any]:
    """Results of several inputs; two runs are in flight, each with a recording of its own."""
    model = dlk.Model(graph, dlk.Device(device_id), dtype)
    name = next(iter(model.inputs))
    shape = (1, *graph.inputs[0].shape[1:])
    rng = np.random.default_rng(3)
    inputs = [rng.standard_normal(shape).astype(np.float32) for _ in range(6)]
    return [next(iter(model.run({name: x}).values())) for x in inputs]


@pytest.mark.parametrize(
    ("network", "dtype"), [("mobilenet_v2", "float32"), ("squeezenet1_1", "float16")]
)
def test_networks(
    monkeypatch: pytest.MonkeyPatch, device_id: str, network: str, dtype: str
) -> None:
    graph = dlk.zoo.build(network, weights="random")
    monkeypatch.setenv("DLK_CHAIN", "0")
    expected = _runs(graph, device_id, dtype)
    monkeypatch.setenv("DLK_CHAIN", "2")
    got = _runs(graph, device_id, dtype)
    for a, b in zip(got, expected, strict=True):
        # The same code, which the compiler may contract in other ways.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
