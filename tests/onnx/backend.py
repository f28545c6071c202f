"""dlk as a backend of the onnx package's own test suite, strict about what runs where."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from dlk import _core
from dlk.importers.onnx import load_graph
from onnx.backend.base import Backend, BackendRep
from onnx.backend.test import BackendTest

from tests.conftest import open_device

# The suite writes inputs and outputs of the light networks below ONNX_HOME: one folder a process.
_HOME = tempfile.TemporaryDirectory(prefix="dlk-onnx-")
os.environ["ONNX_HOME"] = _HOME.name

CATEGORIES = ("Node", "Simple", "PyTorchConverted", "PyTorchOperator", "Real")


class NothingDispatched(AssertionError):
    """A test of numbers that the device did not compute."""


def needs_device(outputs: Sequence[Any]) -> bool:
    """Whether there is a result of numbers, which the device must have written."""
    flat = [x for output in outputs for x in (output if isinstance(output, list) else [output])]
    return any(x is not None and x.dtype.kind not in "OSUT" and x.size > 0 for x in flat)


class Prepared(BackendRep):
    """A model on a device."""

    def __init__(self, model: onnx.ModelProto, device: Any) -> None:
        self._graph = load_graph(model)
        self._model = _core.Model(self._graph, device)
        self._session = self._model.create_session()

    def run(self, inputs: Sequence[Any], **_: Any) -> tuple[Any, ...]:
        """The outputs, in order. NothingDispatched where the host computed numbers."""
        names = [value.name for value in self._graph.inputs]
        feeds = {
            n: np.asarray(v) if isinstance(v, np.generic) else v
            for n, v in zip(names, inputs, strict=False)
        }
        results = self._session.run(feeds)
        outputs = tuple(results[name] for name in self._graph.output_names)
        if needs_device(outputs) and not self._model.plan(feeds).steps:
            raise NothingDispatched("no command ran on the device")
        return outputs


@cache
def backend_for(device_id: str) -> type[Backend]:
    """A backend class for one device: the suite asks for a class, not for an object."""

    class DlkBackend(Backend):
        @classmethod
        def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> BackendRep:
            return Prepared(model, open_device(device_id))

        @classmethod
        def supports_device(cls, device: str) -> bool:
            return device == "CPU"  # the suite's name for the device that a backend has

    return DlkBackend


def runner_for(device_id: str) -> BackendTest:
    """The suite on one device."""
    return BackendTest(backend_for(device_id), __name__)


@cache
def tests_of(device_id: str) -> dict[str, tuple[str, Any]]:
    """Every test: name -> (category, function of no arguments that raises when it fails)."""
    found = {}
    for title, case in runner_for(device_id).test_cases.items():
        category = title.removeprefix("OnnxBackend").removesuffix("ModelTest")
        for name in dir(case):
            if name.startswith("test_") and name.endswith("_cpu"):
                found[name.removesuffix("_cpu")] = (category, getattr(case, name))
    return found


@cache
def names_of_tests() -> list[str]:
    """The names of all tests; they are the same for every device."""
    return sorted(tests_of(""))
