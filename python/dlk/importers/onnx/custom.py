"""Operators that only the caller knows: a function gives a dlk graph for a node, which takes its
place when a model is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from dlk import _core

__all__ = ["CustomNode", "CustomOp", "inline_graph"]


@dataclass(frozen=True)
class CustomNode:
    """A node of an operator that is not ONNX's.

    `input_types` are the dtype and the shape (None where unknown) of each input that is there, as
    far as the file declares them; `opset` is the version of its domain that the model names.
    """

    op: str
    domain: str
    opset: int
    name: str
    attributes: dict[str, Any]
    input_types: list[tuple[str, list[int | str | None] | None]]
    outputs: int


CustomOp: TypeAlias = "Callable[[CustomNode], _core.Graph]"


def inline_graph(
    target: _core.Graph, part: _core.Graph, inputs: Sequence[int], prefix: str
) -> list[int]:
    """Copies `part` into `target` with `inputs` (values of `target`) as its inputs; returns the
    values of its outputs. Names get `prefix`. ValueError where it assigns variables."""
    if part.assignments:
        raise ValueError("a graph that stands for an operator must not assign variables")
    values = dict(zip((v.id for v in part.inputs), inputs, strict=True))
    for value in part.values:
        if value.data is None:
            continue
        if value.kind == "constant":
            values[value.id] = target.add_constant(prefix + value.name, value.data, value.dtype)
        else:
            values[value.id] = target.add_variable(
                prefix + value.name, value.data, value.trainable, value.dtype
            )
    nodes = part.nodes
    for index in part.topological_order():
        node = nodes[index]
        attributes = {
            key: ("ints", []) if isinstance(item, list) and not item else item
            for key, item in node.attributes.items()
        }
        names = ["" if i is None else prefix + part.value(i).name for i in node.outputs]
        made = target.add_node(
            node.op,
            [None if i is None else values[i] for i in node.inputs],
            attributes,
            len(node.outputs),
            name=prefix + node.name,
            domain=node.domain,
            output_names=names,
        )
        values.update(
            (old, new) for old, new in zip(node.outputs, made, strict=True) if old is not None
        )
    return [values[value.id] for value in part.outputs]
