"""The guard of float16 names what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from dlk import _core
from dlk.precision import check_float16


def scaled(factor: float) -> _core.Graph:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", ("N", 4))
    k = graph.add_constant("k", np.array(factor, np.float32))
    (big,) = graph.add_node("Mul", [x, k], output_names=["big"])
    (y,) = graph.add_node("Div", [big, k], output_names=["y"])
    graph.add_output(y, "y")
    return graph


X = np.array([[1.0, 2.0, 0.25, -3.0]], np.float32)


def test_overflow_is_named(device: Any) -> None:
    graph = scaled(30_000.0)
    report = check_float16(graph, {"x": X}, device)
    assert not report.fits
    (suspect,) = report.suspects
    assert (suspect.value, suspect.op, suspect.overflows) == ("big", "Mul", 1)
    assert suspect.largest == 90_000
    assert "'big' (Mul): 1 elements overflow" in str(report)
    # It is what happens: without fusion, `big` is stored.
    session = _core.Model(graph, device, "float16", fuse=False).create_session()
    assert not np.isfinite(session.run({"x": X})["y"]).all()


def test_what_fits(device: Any) -> None:
    report = check_float16(scaled(2.0), {"x": X}, device)
    assert report.fits
    assert (report.suspects, report.largest, report.at, report.values) == ((), 6.0, "big", 2)
    assert "everything fits" in str(report)


def test_what_vanishes(device: Any) -> None:
    report = check_float16(scaled(1e-9), {"x": X}, device)
    assert report.fits
    assert [s.value for s in report.suspects if s.vanishes] == ["big"]
