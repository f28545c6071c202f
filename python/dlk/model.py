"""Models: a network with its weights on a device, ready to run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlk import _core, _progress
from dlk.device import Device, as_device
from dlk.profile import Profile
from dlk.sources import load_graph
from dlk.tensor import Tensor

__all__ = ["Model", "Profile", "Run", "load"]

Input: TypeAlias = "ArrayLike | Tensor"
Output: TypeAlias = "NDArray[Any] | Tensor"
Progress: TypeAlias = Callable[[str, int, int], None]


class Run:
    """One run of a model, under way or done. Its outputs stay valid as long as it lives."""

    def __init__(self, handle: _core.Run, names: Sequence[str], device: Device) -> None:
        self._handle, self._names, self._device = handle, list(names), device

    def wait(self) -> None:
        """Returns when the run is done; raises what went wrong on the device."""
        self._handle.wait()

    @property
    def done(self) -> bool:
        """Whether `wait` would return at once."""
        return self._handle.done()

    def result(self) -> dict[str, NDArray[Any]]:
        """Waits and returns all outputs, by name, in host memory."""
        return {name: self._handle.read(name) for name in self._names}

    def tensor(self, name: str) -> Tensor:
        """An output as a tensor on the device, without waiting for it."""
        return Tensor._of(self._handle.output(name), self._device)

    def on_complete(self, callback: Callable[[BaseException | None], None]) -> None:
        """Calls ``callback(None)`` or ``callback(error)`` once, from a thread of dlk's."""
        self._handle.on_complete(callback)

    def __repr__(self) -> str:
        return f"Run({'done' if self.done else 'under way'}, outputs={self._names})"


class Model:
    """A graph compiled for a device. May be called from several threads at once.

    Args:
        graph: the network, from an importer, ``dlk.nn`` or ``dlk.zoo``; it is not changed.
        device: a ``Device``, its spec, or None for the default device.
        dtype: ``"float32"``: as the graph says; ``"float16"``: float32 weights and activations are
            stored in float16. Inputs and outputs keep their dtype either way.
        accumulate: ``"fp16"`` also computes sums in float16 (less exact: by up to 2 % of the
            largest result for some thousand terms; faster on some devices); needs the device's
            fp16_arithmetic, or inline_ptx, where matrix units alone follow. None is float32.
        fuse: fuse pointwise operations and fold batch normalization.
        channels_last: let the engine keep images with the channels innermost.
        alias: let views share memory and operations overwrite their dying inputs.
        in_flight: runs of one thread that may be under way at once, each with an arena. 0: two, or
            four on GPUs where small runs overlap.
        progress: ``progress(stage, done, total)``, called while kernels are compiled.
        bundle: plans made ahead of time (``dlk convert --target``): ``"auto"`` uses those that
            fit the device and the inputs, ``"never"`` none, ``"require"`` raises where none fits.
            ``DLK_BUNDLE=0`` and ``DLK_BUNDLE=require`` come before it.

    Raises:
        NotImplementedError: operators (all that are missing, at once) or dtypes that the device or
            dlk does not have.
        ValueError: the graph contradicts itself.
        MemoryError: the weights do not fit on the device.
    """

    def __init__(
        self,
        graph: _core.Graph,
        device: Device | str | None = None,
        dtype: str = "float32",
        accumulate: str | None = None,
        *,
        fuse: bool = True,
        channels_last: bool = True,
        alias: bool = True,
        in_flight: int = 0,
        progress: Progress | None = None,
        bundle: str = "auto",
    ) -> None:
        if accumulate not in (None, "fp16", "float16", "fp32", "float32"):
            raise ValueError(f"accumulate={accumulate!r}; use None (float32) or 'fp16'")
        self.device = as_device(device)
        self.dtype = dtype
        self._handle = _core.Model(
            graph,
            self.device.handle,
            dtype=dtype,
            accumulate_fp16=accumulate in ("fp16", "float16"),
            fuse=fuse,
            channels_last=channels_last,
            alias=alias,
            in_flight=in_flight,
            progress=_progress.report if progress is None else progress,
            bundle=bundle,
        )
        self._graph = graph.copy()
        self._inputs = {info.name: info for info in self._handle.inputs}
        self._outputs = list(self._handle.outputs)
        self._threads = threading.local()

    @property
    def handle(self) -> _core.Model:
        """The engine's model."""
        return self._handle

    @property
    def graph(self) -> _core.Graph:
        """A copy of the network as it was given."""
        return self._graph.copy()

    @property
    def inputs(self) -> dict[str, _core.InputInfo]:
        """What each input wants: name, dtype, shape (int, symbol or None a dimension)."""
        return dict(self._inputs)

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs, in order."""
        return list(self._outputs)

    @property
    def bundled(self) -> bool:
        """Whether a run or a plan used a bundle: nothing was planned or compiled for it."""
        return self._handle.bundled

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes of a classifier; empty where there are none."""
        return tuple(self._graph.info.labels)

    def __call__(self, *args: Input | Mapping[str, Input], **named: Input) -> Any:
        """Runs the model and waits.

        Args:
            args: the inputs in order, or one mapping from input names.
            named: inputs by name.

        Returns:
            The output, or a tuple where there are several. They are NumPy arrays; if an input is a
            ``dlk.Tensor``, they are tensors that stay on the device.

        Raises:
            ValueError: unknown or missing names, wrong dtypes, ranks or shapes.
        """
        inputs = self._named_inputs(args, named)
        outputs: list[Output]
        if any(isinstance(value, Tensor) for value in inputs.values()):
            run = self.run_async(inputs)
            run.wait()
            outputs = [run.tensor(name) for name in self._outputs]
        else:
            result = self.run(inputs)
            outputs = [result[name] for name in self._outputs]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(self, inputs: Mapping[str, Input]) -> dict[str, NDArray[Any]]:
        """Runs the model and returns all outputs, by name, in host memory."""
        return self._session().run(self._feeds(inputs))

    def run_async(self, inputs: Mapping[str, Input]) -> Run:
        """Starts a run and returns; blocks only while `in_flight` runs are under way."""
        handle = self._session().run_async(self._feeds(inputs))
        return Run(handle, self._outputs, self.device)

    def plan(self, inputs: Mapping[str, Input] | None = None) -> _core.PlanSummary:
        """What would be done for these inputs: dispatches, memory, host operations.

        Without inputs, symbolic dimensions are 1.
        """
        return self._handle.plan(self._feeds(self.example_inputs() if inputs is None else inputs))

    def profile(self, inputs: Mapping[str, Input] | None = None) -> Profile:
        """Runs once and measures each operation on the device.

        Without inputs, symbolic dimensions are 1 and inputs are zeros.
        """
        feeds = self._feeds(self.example_inputs() if inputs is None else inputs)
        self._session().run(feeds)  # compiles and warms up
        return Profile(self._session().profile(feeds), self.device.id)

    def summary(self) -> str:
        """A table of the operations: output shapes with symbols, parameters, multiply-adds."""
        from dlk.summary import summarize

        return summarize(self._graph)

    def bundle(self, inputs: Mapping[str, Input] | None = None) -> _core.Bundle:
        """The plan for these inputs with its kernels and packed weights, for this device.

        ``model.graph.add_bundle(bundle)`` keeps it with a copy of the graph that is then saved;
        ``dlk convert --target`` does that. Without inputs, symbolic dimensions are 1.

        Raises:
            NotImplementedError: shapes or control flow depend on what a run computes, or the
                device's API keeps no compiled kernels.
        """
        return self._handle.bundle(self._feeds(self.example_inputs() if inputs is None else inputs))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the network and its weights as a ``.dlk`` file, whole or not at all."""
        _core.save_dlk(self._graph, os.fspath(path))

    def example_inputs(
        self, dims: Mapping[str, int] | None = None, seed: int | None = None
    ) -> dict[str, NDArray[Any]]:
        """Inputs of the right shapes and dtypes: zeros, or random numbers where `seed` is given.

        Args:
            dims: values of symbolic dimensions; those not named are 1.
        """
        rng = np.random.default_rng(seed)
        result: dict[str, NDArray[Any]] = {}
        for info in self._inputs.values():
            shape = [d if isinstance(d, int) else (dims or {}).get(d or "", 1) for d in info.shape]
            dtype = np.dtype("uint16" if info.dtype == "bfloat16" else info.dtype)
            if seed is not None and dtype.kind == "f":
                result[info.name] = rng.standard_normal(shape).astype(dtype)
            else:
                result[info.name] = np.zeros(shape, dtype)
        return result

    def _session(self) -> _core.Session:
        session: _core.Session | None = getattr(self._threads, "session", None)
        if session is None:
            session = self._threads.session = self._handle.create_session()
        return session

    def _named_inputs(self, args: Sequence[Any], named: Mapping[str, Input]) -> dict[str, Input]:
        if len(args) == 1 and isinstance(args[0], Mapping):
            return {**args[0], **named}
        names = list(self._inputs)
        if len(args) > len(names):
            raise ValueError(f"{len(args)} inputs given; the model takes {', '.join(names)}")
        return {**dict(zip(names, args, strict=False)), **named}

    def _feeds(self, inputs: Mapping[str, Input]) -> dict[str, Any]:
        feeds: dict[str, Any] = {}
        for name, value in inputs.items():
            if isinstance(value, Tensor):
                feeds[name] = value.handle
            elif isinstance(value, (np.ndarray, np.generic)) or name not in self._inputs:
                feeds[name] = value
            else:  # a number or a list has no dtype of its own
                feeds[name] = np.asarray(value, self._inputs[name].dtype)
        return feeds

    def __repr__(self) -> str:
        inputs = ", ".join(f"{i.name}: {i.dtype} {i.shape}" for i in self._inputs.values())
        return f"Model({inputs} -> {', '.join(self._outputs)}; {self.device.id}, {self.dtype})"


def load(
    source: str | os.PathLike[str] | _core.Graph,
    device: Device | str | None = None,
    dtype: str = "float32",
    accumulate: str | None = None,
    *,
    weights: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Model:
    """A model from a file or from the zoo.

    Args:
        source: an ``.onnx`` or ``.dlk`` file, the name of a network of ``dlk.zoo`` (with its
            pretrained weights where there are any), or a graph.
        weights: of a zoo network: ``"random"``, or the file of a state dict for it.
        device, dtype, accumulate, progress, options: as for `Model`.

    Raises:
        ValueError: the file is damaged, of an unknown kind, or holds weights without a network.
        FileNotFoundError: neither a file nor a name in the zoo.
        NotImplementedError: operators that dlk does not have.
    """
    if isinstance(source, _core.Graph):
        if weights:
            raise ValueError("a graph has its own weights; weights= is for networks of the zoo")
        graph = source
    else:
        graph = load_graph(source, weights)
    return Model(graph, device, dtype, accumulate, progress=progress, **options)
