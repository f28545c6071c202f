"""What the model tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from dlk import _core

DATA = Path(__file__).parent.parent / "data" / "models"
IMAGES = Path(__file__).parent.parent.parent / "examples" / "images"


def relative_error(result: np.ndarray, expected: np.ndarray) -> float:
    """||a - b|| / ||b||, in float64; infinite where shapes differ or numbers are not finite."""
    a, b = np.asarray(result, np.float64), np.asarray(expected, np.float64)
    if a.shape != b.shape or not np.isfinite(a).all():
        return float("inf")
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-30))


def reference(name: str) -> dict[str, np.ndarray]:
    """Inputs and outputs of a real network, computed by another engine."""
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def run(
    graph: _core.Graph, device: Any, inputs: dict[str, np.ndarray], **options: Any
) -> dict[str, np.ndarray]:
    """All outputs of one run."""
    model = _core.Model(graph, device, **options)
    return dict(model.create_session().run(inputs))
