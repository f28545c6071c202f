"""Gradients of a network's outputs for its inputs and weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlk import _core
from dlk.device import Device

__all__ = ["grad"]


def grad(
    source: str | os.PathLike[str] | _core.Graph,
    inputs: Mapping[str, Any],
    cotangents: Mapping[str, Any] | None = None,
    wrt: Sequence[str] | None = None,
    device: Device | str | None = None,
    **options: Any,
) -> dict[str, NDArray[Any]]:
    """Gradients of the outputs' sum, weighted with `cotangents`, by name of input or weight.

    Args:
        source: a graph, or what `dlk.load` takes.
        inputs: the network's inputs, by name.
        cotangents: an array for each output that counts, of its shape; all ones for every output
            where left out.
        wrt: names of inputs, constants and variables; all floating-point ones by default.
        device, options: as for `dlk.Model`.

    Raises:
        ValueError: unknown names, or values that are not floating point.
        NotImplementedError: an operator on the way has no gradient.
    """
    from dlk.model import Model
    from dlk.sources import load_graph

    graph = source.copy() if isinstance(source, _core.Graph) else load_graph(source).copy()
    names = list(graph.output_names)
    chosen = list(cotangents) if cotangents is not None else names
    unknown = [n for n in chosen if n not in names]
    if unknown:
        raise ValueError(f"there is no output {unknown[0]!r}; the outputs are {', '.join(names)}")
    outputs = [graph.outputs[names.index(n)].id for n in chosen]
    weights: list[int | None] = []
    feeds = dict(inputs)
    for name in chosen:
        if cotangents is None:
            weights.append(None)
            continue
        array = np.asarray(cotangents[name])
        feeds[f"cotangent/{name}"] = array.astype("float32") if array.dtype.kind == "f" else array
        weights.append(graph.add_input(f"cotangent/{name}", "float32", list(array.shape)))
    wanted = _wanted(graph, wrt, set(inputs))
    found = graph.gradients(outputs, [w.id for w in wanted], weights)
    for value, gradient in zip(wanted, found, strict=True):
        if gradient is not None:
            graph.add_output(gradient, f"gradient/{value.name}")
    made = Model(graph, device, **options).run(feeds)
    shapes = {v.name: v for v in wanted}
    gradients = {}
    for name, value in shapes.items():
        key = f"gradient/{name}"
        if key in made:
            gradients[name] = made[key]
        else:
            like = np.asarray(inputs[name]) if name in inputs else value.data
            gradients[name] = np.zeros_like(like)
    return gradients


def _wanted(graph: _core.Graph, wrt: Sequence[str] | None, given: set[str]) -> list[_core.Value]:
    if wrt is not None:
        values = []
        for name in wrt:
            number = graph.find(name)
            if number is None:
                raise ValueError(f"the network has no input or weight {name!r}")
            values.append(graph.value(number))
        return values
    return [
        v
        for v in graph.values
        if v.dtype.startswith("float")
        and (v.name in given if v.kind == "input" else v.kind in ("constant", "variable"))
    ]
