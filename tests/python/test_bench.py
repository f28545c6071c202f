"""The figures of a benchmark."""

from __future__ import annotations

import dlk
import numpy as np
import pytest
from dlk.bench import measure, percentile

from .nets import dense


def test_percentile() -> None:
    values = [float(v) for v in range(1, 101)]
    assert percentile(values, 0.95) == 95
    assert percentile([3.0], 0.95) == 3
    assert percentile([2.0, 1.0], 0.5) == 1


def test_measure(device_id: str) -> None:
    model = dlk.Model(dense(), device_id)
    result = measure(model, {"x": np.zeros((2, 6), np.float32)}, batch=2, runs=6)
    assert result.runs == 6
    assert result.batch == 2
    assert result.device == device_id
    assert 0 < result.min_ms <= result.median_ms <= result.p95_ms
    assert result.device_ms > 0
    assert result.pipelined_ms > 0
    assert set(result.to_dict()) == {
        "device", "dtype", "batch", "median_ms", "device_ms", "pipelined_ms", "min_ms", "p95_ms",
        "runs",
    }  # fmt: skip


def test_two_models_do_not_share_sessions(device_id: str) -> None:
    first, second = dlk.Model(dense(), device_id), dlk.Model(dense(), device_id)
    assert first._session() is first._session()
    assert first._session() is not second._session()
    with pytest.raises(ValueError, match="x"):
        first.run({})
