"""What would happen to each operator of a graph, before anything runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dlk import _core

__all__ = ["Explanation", "explain"]

DEVICE = "device"
VIEW = "device, or a view without a copy"
SHAPES = "device; shape arithmetic on the host"
PLAN = "plan"
UNSUPPORTED = "unsupported"

PLANNED = {
    "Constant": "a weight",
    "If": "the branch is chosen when its condition is known",
    "Loop": "inlined where short, else its body runs once an iteration",
    "Scan": "inlined where short, else its body runs once a step",
    "SequenceMap": "its body is inlined for each tensor",
    "SplitToSequence": "split by views",
    "ConcatFromSequence": "a concatenation",
    "Optional": "structure only",
    "OptionalGetElement": "structure only",
    "OptionalHasElement": "structure only",
    "SequenceAt": "structure only",
    "SequenceConstruct": "structure only",
    "SequenceEmpty": "structure only",
    "SequenceErase": "structure only",
    "SequenceInsert": "structure only",
    "SequenceLength": "structure only",
}
"""Operators that plans resolve, and how."""


@dataclass(frozen=True)
class Explanation:
    """One operator of a graph: how often it is there, where it runs, and what is to be said."""

    op: str
    domain: str
    count: int
    runs: str
    note: str
    nodes: tuple[str, ...]

    @property
    def supported(self) -> bool:
        """False where a model with it cannot be made."""
        return self.runs != UNSUPPORTED


def _nodes(graph: _core.Graph) -> Iterator[Any]:
    for node in graph.nodes:
        yield node
        for value in node.attributes.values():
            if isinstance(value, _core.Graph):
                yield from _nodes(value)


def explain(graph: _core.Graph) -> list[Explanation]:
    """Every operator of a graph and of its subgraphs, the unsupported first, then by name."""
    registry = {(op["name"], op["domain"]): op for op in _core.operators()}
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for node in _nodes(graph):
        found[node.op, node.domain].append(node.name)
    rows = [
        Explanation(op, domain, len(names), *_where(op, domain, registry), tuple(names))
        for (op, domain), names in found.items()
    ]
    return sorted(rows, key=lambda row: (row.supported, row.domain, row.op))


def _where(op: str, domain: str, registry: dict[tuple[str, str], Any]) -> tuple[str, str]:
    if not domain and op in PLANNED:
        return PLAN, PLANNED[op]
    schema = registry.get((op, domain))
    if schema is None:
        hint = "" if not domain else "; give load_graph a graph for it (custom_ops)"
        return UNSUPPORTED, f"dlk does not have it{hint}"
    note = "the plan ends here: its sizes are read back" if schema.get("dynamic") else ""
    if schema["alias"]:
        return VIEW, note
    if schema["host_eval"]:
        return SHAPES, note
    return DEVICE, note
