"""Where a NaN or an infinity came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlk import _core

if TYPE_CHECKING:
    from .step import TrainStep

_AT_ONCE = 64


def first_nan(step: TrainStep, feeds: Mapping[str, Any]) -> str:
    """Says which operation first gave something not finite: runs the forward pass of the same batch
    again, on the same weights, and looks at every result."""
    step.wait()
    for name, given in feeds.items():
        array = given if isinstance(given, np.ndarray) else given.read()
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"the input {name!r} holds numbers that are not finite"
    for name in step.variables():
        if not np.isfinite(step.model.read_variable(name)).all():
            return f"the variable {name!r} holds numbers that are not finite"
    template = step.build(None).graph
    loss = template.outputs[template.output_names.index("loss")].producer
    order = [n for n in template.topological_order() if loss is None or n <= loss]
    nodes = template.nodes
    for start in range(0, len(order), _AT_ONCE):
        found = _run_part(
            step, template, [nodes[n] for n in order[start : start + _AT_ONCE]], feeds
        )
        if found:
            return found
    return "no single result of the forward pass is the cause"


def _run_part(step: TrainStep, template: Any, nodes: list[Any], feeds: Mapping[str, Any]) -> str:
    shown = template.copy()
    outputs: dict[str, str] = {}
    for node in nodes:
        for value in node.outputs:
            if value is not None and f"check/{value}" not in outputs:
                shown.add_output(value, f"check/{value}")
                outputs[f"check/{value}"] = f"{node.name} ({node.op})"
    declared = {v.name for v in shown.inputs}
    model = _core.Model(
        shown, step.device.handle, step.dtype, share_variables=step.model, fuse=False
    )
    found = model.create_session().run({n: a for n, a in feeds.items() if n in declared})
    for name, where in outputs.items():
        array = found[name]
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            what = "NaN" if np.isnan(array).any() else "infinity"
            return f"the first {what} comes from {where}"
    return ""
