"""Peaks of devices, and what operations reach of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dlk
import numpy as np
import pytest
from dlk import _core, roofline

from .nets import dense

MOST = roofline.Peaks(copy_bytes=100e9, fp32_flops=1e12, fp16_flops=0.0, matrix_flops=10e12)


def step(node: str, kernel: str, moved: int, flops: float) -> Any:
    return SimpleNamespace(
        node=node, op="Conv", kernel=kernel, bytes_read=moved // 2, bytes_written=moved // 2,
        flops=flops,
    )  # fmt: skip


def test_fractions() -> None:
    steps = [
        (step("a", "pool", 100_000, 0.0), 2e3),  # 1 us of copying in 2
        (step("b", "patches", 10_000, 0.0), 1e3),
        (step("b", "conv_gemm", 10_000, 8e6), 9e3),  # 8 us of arithmetic in 10
        (step("c", "conv_mma", 1_000, 4e6), 1e3),  # 0.4 us on matrix units in 1
    ]
    rows = roofline.rows(steps, MOST)
    assert [row["node"] for row in rows] == ["a", "b", "c"]
    assert [row["fraction"] for row in rows] == pytest.approx([0.5, 0.8, 0.4])
    assert [row["bound"] for row in rows] == ["memory", "arithmetic", "arithmetic"]
    assert rows[1]["kernels"] == ["patches", "conv_gemm"]
    assert rows[1]["gflops"] == pytest.approx(800)
    total = roofline.by_op(rows)
    assert [(row["op"], row["count"]) for row in total] == [("Conv", 3)]
    assert total[0]["fraction"] == pytest.approx((1 + 8 + 0.4) / 13)


def test_peaks_are_measured_once(
    device_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLK_CACHE_DIR", str(tmp_path))
    first = roofline.peaks(device_id, fresh=True)
    assert first.copy_bytes > 1e6
    assert first.fp32_flops > 1e6
    assert (first.fp16_flops > 0) == bool(_core.open_device(device_id).caps["fp16_arithmetic"])
    assert roofline.peaks(device_id) == first
    for damaged in ("{", '{"copy_bytes": 1}'):
        (kept,) = Path(_core.cache_directory()).glob("peaks-*")
        kept.write_text(damaged)
        monkeypatch.setattr(_core, "measure_peaks", lambda _: dict.fromkeys(
            ("copy_bytes", "fp32_flops", "fp16_flops"), 7.0))  # fmt: skip
        assert roofline.peaks(device_id).copy_bytes == 7


def test_a_device_without_kernels_has_no_peaks() -> None:
    with pytest.raises(NotImplementedError, match="null"):
        roofline.peaks("null")


def test_profile_against_the_roof(device_id: str) -> None:
    profile = dlk.Model(dense(), device_id).profile({"x": np.ones((2, 6), np.float32)})
    rows = profile.roofline(MOST)
    assert rows
    assert all(row["fraction"] > 0 for row in rows)
    assert "% roof" in profile.table(most=MOST)
    assert "% roof" not in profile.table()
