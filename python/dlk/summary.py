"""A graph as a table: operations, shapes with symbols, parameters, multiply-adds."""

from __future__ import annotations

import ast
import io
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

from dlk import _core

__all__ = ["Row", "rows", "summarize"]

_ARITHMETIC: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


@dataclass(frozen=True)
class Row:
    """One operation. `macs` counts multiply-adds with every symbolic dimension 1."""

    op: str
    name: str
    shape: tuple[str, ...]
    params: int
    macs: int


def dim_value(text: str) -> int:
    """A dimension's text such as ``"2*N+1"`` with every symbol 1; 1 where it is not arithmetic."""

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return _ARITHMETIC[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value(node.operand)
        return 1

    try:
        return value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ZeroDivisionError):
        return 1


def rows(graph: _core.Graph) -> list[Row]:
    """One row a node, in the graph's order. Shared parameters count where they are used first."""
    shapes = _core.symbolic_shapes(graph)
    values = graph.values
    seen: set[int] = set()
    result = []
    for node in graph.nodes:
        params = 0
        for i in node.inputs:
            if i is None or i in seen or values[i].data is None:
                continue
            seen.add(i)
            data = values[i].data
            if values[i].dtype.startswith(("float", "bfloat")) and data is not None:
                params += data.size
        out = node.outputs[0]
        shape = tuple(shapes.get(values[out].name, ["?"])) if out is not None else ()
        result.append(Row(node.op, node.name, shape, params, _macs(node, values, shapes, shape)))
    return result


def _macs(
    node: _core.Node,
    values: list[_core.Value],
    shapes: dict[str, list[str]],
    shape: tuple[str, ...],
) -> int:
    def dims(index: int) -> list[int]:
        i = node.inputs[index]
        return [] if i is None else [dim_value(d) for d in shapes.get(values[i].name, [])]

    elements = math.prod(dim_value(d) for d in shape)
    if node.op == "Conv":  # weights (M, C/group, k...)
        return elements * math.prod(dims(1)[1:])
    if node.op == "ConvTranspose":  # weights (C, M/group, k...): each input reaches so many outputs
        return math.prod(dims(0)) * math.prod(dims(1)[1:])
    if node.op == "Gemm":
        a = dims(0)
        return elements * (a[0] if node.attributes.get("transA") else a[-1]) if a else 0
    if node.op == "MatMul":
        a = dims(0)
        return elements * a[-1] if a else 0
    return 0


def count(number: int) -> str:
    """``12.3 M`` for 12300000."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= limit:
            return f"{number / limit:.2f}{unit}"
    return str(number)


def summarize(graph: _core.Graph, width: int = 110) -> str:
    """The table as text, with totals."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("op", "name", "output"):
        table.add_column(title, overflow="fold")
    for title in ("params", "MACs"):
        table.add_column(title, justify="right", no_wrap=True)
    all_rows = rows(graph)
    for row in all_rows:
        table.add_row(
            row.op,
            row.name,
            f"({', '.join(row.shape)})",
            count(row.params) if row.params else "",
            count(row.macs) if row.macs else "",
        )
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False)
    console.print(table)
    inputs = ", ".join(f"{v.name} {v.dtype} {_shape_text(v)}" for v in graph.inputs)
    console.print(f"inputs: {inputs}", markup=False)
    console.print(
        f"{len(all_rows)} operations, {count(sum(r.params for r in all_rows))} parameters, "
        f"{count(sum(r.macs for r in all_rows))} multiply-adds (symbolic dimensions as 1)",
        markup=False,
    )
    return out.getvalue()


def _shape_text(value: _core.Value) -> str:
    dims = ["?" if d is None else str(d) for d in value.shape or ()]
    return f"({', '.join(dims)})"
