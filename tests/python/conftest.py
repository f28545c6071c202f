"""Fixtures of the package's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlk import _core

from . import command
from .nets import classifier, dense, png, save_onnx


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command line in this process: ``call("info", path).json()``."""
    return lambda *words: command.call(capsys, *words)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a model of each kind, inputs and a photograph."""
    _core.save_dlk(dense(), str(tmp_path / "dense.dlk"))
    _core.save_dlk(classifier(), str(tmp_path / "colours.dlk"))
    save_onnx(tmp_path / "dense.onnx")
    np.savez(tmp_path / "x.npz", x=np.ones((2, 6), np.float32))
    (tmp_path / "red.png").write_bytes(png())
    return tmp_path
