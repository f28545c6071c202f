"""Old operator versions to the newest form. One function for each change, in a table: operator ->
[(opset that changed it, function)]. A model of opset V gets the changes with opset > V, in order.

An adapter edits the node and returns it, or emits its replacement (in the newest form) and returns
None. `Context` gives it constants, helper nodes and what is known of the values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from onnx import TensorProto

from .node import Node
from .tensors import dtype_name


class Context(Protocol):
    """What an adapter may ask for."""

    def constant(self, array: np.ndarray, hint: str) -> str:
        """Adds a constant; returns its name."""

    def emit(self, op: str, inputs: list[str], outputs: list[str] | str, **attributes: Any) -> str:
        """Adds a node in the newest form; `outputs` are names, or a hint for one new name.
        Returns the (first) output's name."""

    def value(self, name: str) -> np.ndarray | None:
        """The value where it is a constant."""

    def shape(self, name: str) -> list[int | None] | None:
        """The declared or inferred shape, where there is one."""

    def dtype(self, name: str) -> str:
        """The element type; "float32" where nothing is known."""

    def is_used(self, name: str) -> bool:
        """Something reads the value."""

    def reserve(self, elements: int) -> None:
        """Before a table is made that the file does not hold: ValueError when it is too large."""


Adapter = Callable[[Node, Context], "Node | None"]
NEWEST_OPSET = 25
MAX_COPIES = 1024  # of a node that a form without batches stands for
ALWAYS = NEWEST_OPSET + 1  # for habits of exporters that no version ended


def adapt(node: Node, opset: int, context: Context) -> Node | None:
    """The node in its newest form; None when it has been replaced by emitted nodes."""
    node.attributes.pop("consumed_inputs", None)
    for version, adapter in ADAPTERS.get(node.op, ()):
        if opset < version:
            try:
                changed = adapter(node, context)
            except (IndexError, KeyError, TypeError, OverflowError) as error:
                raise _fail(
                    node, f"lacks inputs, or has attributes of a wrong kind ({error})"
                ) from error
            if changed is None:
                return None
            node = changed
    return node


def _fail(node: Node, message: str) -> ValueError:
    return ValueError(f"{node.label}: {message}")


def _rank(node: Node, name: str, context: Context) -> int:
    shape = context.shape(name)
    if shape is None:
        raise _fail(
            node,
            f"the rank of {name!r} is needed to read this old operator version and is unknown; "
            "run onnx.shape_inference or onnx.version_converter on the model first",
        )
    return len(shape)


def _ints(values: list[int] | int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def _attr_to_input(attribute: str, index: int) -> Adapter:
    """An int or int-list attribute that became an int64 input."""

    def adapter(node: Node, context: Context) -> Node:
        if attribute in node.attributes:
            values = _ints(node.attributes.pop(attribute))
            node.put_input(index, context.constant(values, f"{node.outputs[0]}/{attribute}"))
        return node

    return adapter


def _drop(*attributes: str) -> Adapter:
    def adapter(node: Node, _context: Context) -> Node:
        for name in attributes:
            node.attributes.pop(name, None)
        return node

    return adapter


def _rename(op: str) -> Adapter:
    def adapter(node: Node, _context: Context) -> Node:
        node.op = op
        return node

    return adapter


def _default(attribute: str, value: Any) -> Adapter:
    """The default changed: write down the old one."""

    def adapter(node: Node, _context: Context) -> Node:
        node.attributes.setdefault(attribute, value)
        return node

    return adapter


def _legacy_broadcast(node: Node, context: Context) -> Node:
    """Opset < 7: `broadcast=1, axis=k` lays B's dimensions beside A's from axis k on."""
    axis = node.attributes.pop("axis", None)
    if not node.attributes.pop("broadcast", 0) or axis is None:
        return node
    b = node.inputs[1]
    rank_a, rank_b = _rank(node, node.inputs[0], context), _rank(node, b, context)
    if axis < 0:
        axis += rank_a
    trailing = rank_a - axis - rank_b
    if trailing < 0 or axis < 0:
        raise _fail(node, f"axis {axis} leaves no room for {rank_b} dimensions in {rank_a}")
    if trailing > 0:
        axes = context.constant(_ints(list(range(rank_b, rank_b + trailing))), f"{b}/axes")
        node.inputs[1] = context.emit("Unsqueeze", [b, axes], f"{b}/unsqueezed")
    return node


def _softmax(node: Node, context: Context) -> Node | None:
    """Opset < 13: the input is a matrix, flattened at `axis` (default 1); rows are normalized."""
    axis = node.attributes.get("axis", 1)
    x = node.inputs[0]
    shape = context.shape(x)
    if shape is not None and axis in (len(shape) - 1, -1):
        node.attributes["axis"] = -1
        return node
    flat = context.emit("Flatten", [x], f"{x}/flat", axis=axis)
    rows = context.emit(node.op, [flat], f"{x}/rows", axis=-1)
    dims = context.emit("Shape", [x], f"{x}/shape")
    context.emit("Reshape", [rows, dims], node.outputs[:1])
    return None


def _batch_norm_spatial(node: Node, context: Context) -> Node | None:
    """Opset < 9: `spatial=0` normalizes each activation by its own statistics."""
    if node.attributes.pop("spatial", 1):
        return node
    x, scale, bias, mean, variance = node.inputs
    out = node.outputs[0]
    epsilon = context.constant(
        np.array(node.attributes.get("epsilon", 1e-5), np.float32), f"{out}/epsilon"
    )
    centred = context.emit("Sub", [x, mean], f"{out}/centred")
    padded = context.emit("Add", [variance, epsilon], f"{out}/variance")
    deviation = context.emit("Sqrt", [padded], f"{out}/deviation")
    normal = context.emit("Div", [centred, deviation], f"{out}/normal")
    scaled = context.emit("Mul", [normal, scale], f"{out}/scaled")
    context.emit("Add", [scaled, bias], [out])
    return None


def _batch_norm_outputs(node: Node, context: Context) -> Node:
    """Opset < 14: outputs beyond the first are of the training form."""
    if any(name and context.is_used(name) for name in node.outputs[1:]):
        raise _fail(node, "batch normalization in training form is not read; export for inference")
    node.outputs = node.outputs[:1]
    return node


_CAST_NAMES = {"FLOAT": "FLOAT", "DOUBLE": "DOUBLE", "BOOL": "BOOL", "HALF": "FLOAT16"}


def _cast_string(node: Node, _context: Context) -> Node:
    """Opset < 6: `to` is a type's name."""
    to = node.attributes.get("to")
    if isinstance(to, str):
        name = _CAST_NAMES.get(to.upper(), to.upper())
        if name not in set(TensorProto.DataType.keys()):
            raise _fail(node, f"casts to the unknown type {to!r}")
        node.attributes["to"] = int(TensorProto.DataType.Value(name))
    return node


def _clip_bounds(node: Node, context: Context) -> Node:
    """Opset < 11: bounds are attributes."""
    dtype = np.dtype(context.dtype(node.inputs[0]))
    for index, name in enumerate(("min", "max"), start=1):
        if name in node.attributes:
            bound = float(node.attributes.pop(name))
            if np.isfinite(bound) and abs(bound) < 3.4e38:
                array = np.array(bound, np.float32).astype(dtype)
                node.put_input(index, context.constant(array, f"{node.outputs[0]}/{name}"))
    return node


def _dropout(node: Node, context: Context) -> Node:
    """Opset < 12: no training mode; the mask, where it is read, is of ones."""
    node.attributes.clear()
    if not any(name and context.is_used(name) for name in node.outputs[1:]):
        node.op, node.outputs = "Identity", node.outputs[:1]
    return node


def _slice(node: Node, context: Context) -> Node:
    for index, name in enumerate(("starts", "ends", "axes"), start=1):
        if name in node.attributes:
            array = _ints(node.attributes.pop(name))
            node.put_input(index, context.constant(array, f"{node.outputs[0]}/{name}"))
    return node


def _pad(node: Node, context: Context) -> Node:
    """Opset < 11: pads and value are attributes (`paddings` in opset 1)."""
    pads = node.attributes.pop("pads", node.attributes.pop("paddings", None))
    if pads is None:
        raise _fail(node, "has no pads")
    out = node.outputs[0]
    node.put_input(1, context.constant(_ints(pads), f"{out}/pads"))
    value = float(node.attributes.pop("value", 0.0))
    dtype = np.dtype(context.dtype(node.inputs[0]))
    node.put_input(2, context.constant(np.array(value).astype(dtype), f"{out}/value"))
    return node


def _split_count(node: Node, _context: Context) -> Node:
    """Opset < 18: without sizes, the number of parts is the number of outputs."""
    if not node.input(1):
        node.attributes["num_outputs"] = len(node.outputs)
    return node


def _upsample_1(node: Node, _context: Context) -> Node:
    """Opset < 7: one scale each for height and width."""
    scales = [node.attributes.pop("height_scale", 1.0), node.attributes.pop("width_scale", 1.0)]
    node.attributes.setdefault("scales", [1.0, 1.0, *scales])
    return node


def _upsample_9(node: Node, context: Context) -> Node:
    """Opset < 9: scales are an attribute."""
    if "scales" in node.attributes:
        scales = np.array(node.attributes.pop("scales"), np.float32)
        node.put_input(1, context.constant(scales, f"{node.outputs[0]}/scales"))
    return node


def _upsample_to_resize(node: Node, context: Context) -> Node:
    """Opset < 10 (Upsample): `bilinear` was another name of linear."""
    node.op = "Resize"
    if node.attributes.get("mode") == "bilinear":
        node.attributes["mode"] = "linear"
    return _resize_10(node, context)


def _resize_10(node: Node, _context: Context) -> Node:
    """Opset < 11: inputs (X, scales), asymmetric coordinates, nearest rounds down."""
    node.inputs = [node.inputs[0], "", node.input(1)]
    node.attributes.setdefault("coordinate_transformation_mode", "asymmetric")
    node.attributes.setdefault("nearest_mode", "floor")
    return node


def _resize_inputs(node: Node, context: Context) -> Node:
    """An empty tensor stands for a left-out roi or scales, in old and in many new files."""
    for index in (1, 2):
        name = node.input(index)
        array = context.value(name) if name else None
        if array is not None and array.size == 0:
            node.inputs[index] = ""
    return node


def _tile_1(node: Node, context: Context) -> Node:
    """Opset < 6: (X, tiles, axis) repeats along one axis."""
    tiles, axis = context.value(node.input(1)), context.value(node.input(2))
    if tiles is None or axis is None:
        raise _fail(node, "tiles and axis must be constants in this old operator version")
    repeats = [1] * _rank(node, node.inputs[0], context)
    if not -len(repeats) <= int(axis) < len(repeats):
        raise _fail(node, f"axis {int(axis)} is out of range")
    repeats[int(axis)] = int(tiles)
    node.inputs = [node.inputs[0], context.constant(_ints(repeats), f"{node.outputs[0]}/repeats")]
    return node


def _prelu(node: Node, context: Context) -> Node:
    """Opset < 7: a slope of C values goes with the channel axis (1)."""
    slope = node.inputs[1]
    shape = context.shape(slope)
    if shape is not None and len(shape) == 1 and shape[0] != 1:
        trailing = _rank(node, node.inputs[0], context) - 2
        if trailing > 0:
            axes = context.constant(_ints(list(range(1, 1 + trailing))), f"{slope}/axes")
            node.inputs[1] = context.emit("Unsqueeze", [slope, axes], f"{slope}/unsqueezed")
    return node


def _group_norm(node: Node, context: Context) -> None:
    """Opset < 21: scale and bias hold one value a group, as instance normalization has."""
    x, scale, bias = node.inputs
    out = node.outputs[0]
    groups = node.attributes.get("num_groups")
    if not isinstance(groups, int) or groups < 1:
        raise _fail(node, "needs num_groups")
    split = context.constant(_ints([0, groups, -1]), f"{out}/split")
    grouped = context.emit("Reshape", [x, split], f"{out}/grouped")
    epsilon = node.attributes.get("epsilon", 1e-5)
    normal = context.emit(
        "InstanceNormalization", [grouped, scale, bias], f"{out}/normal", epsilon=epsilon
    )
    dims = context.emit("Shape", [x], f"{out}/shape")
    context.emit("Reshape", [normal, dims], [out])


def _mean_variance(node: Node, _context: Context) -> Node:
    """Opset < 9: `across_channels` chose the axes."""
    across = node.attributes.pop("across_channels", 0)
    if not node.attributes.pop("normalize_variance", 1):
        raise _fail(node, "normalize_variance=0 is not read; subtract the mean instead")
    node.attributes["axes"] = [0, 1, 2, 3] if across else [0, 2, 3]
    return node


def _grid_sample(node: Node, _context: Context) -> Node:
    """Opset < 20: other names of the modes."""
    names = {"bilinear": "linear", "bicubic": "cubic"}
    mode = node.attributes.get("mode", "bilinear")
    node.attributes["mode"] = names.get(mode, mode)
    return node


def _dft(node: Node, context: Context) -> Node:
    """Opset < 20: the axis is an attribute, by default 1."""
    axis = node.attributes.pop("axis", 1)
    node.put_input(2, context.constant(_ints(axis), f"{node.outputs[0]}/axis"))
    return node


def _scan_8(node: Node, context: Context) -> None:
    """Opset 8: a batch axis before all others, and lengths of sequences."""
    if node.input(0):
        raise _fail(node, "sequence_lens of opset 8 is not read; convert the model to opset 9")
    inputs, outputs = node.inputs[1:], node.outputs
    scanned = int(node.attributes["num_scan_inputs"])
    shape = context.shape(inputs[-1])
    if not shape or shape[0] is None:
        raise _fail(node, "the batch size of a Scan of opset 8 must be declared")
    if shape[0] > MAX_COPIES:
        raise _fail(node, f"has a batch of {shape[0]}; a Scan of opset 8 may have {MAX_COPIES}")
    attributes = {k: v for k, v in node.attributes.items() if k != "directions"}
    attributes["scan_input_directions"] = list(node.attributes.get("directions", [0] * scanned))
    axis = context.constant(_ints([0]), f"{outputs[0]}/axis")
    made: list[list[str]] = [[] for _ in outputs]
    for item in range(shape[0]):
        index = context.constant(_ints(item), f"{outputs[0]}/item")
        given = [context.emit("Gather", [n, index], f"{n}/item", axis=0) for n in inputs]
        names = [f"{name}/{item}" if name else "" for name in outputs]
        context.emit("Scan", given, names, **attributes)
        for rows, name in zip(made, names, strict=True):
            if name:
                rows.append(context.emit("Unsqueeze", [name, axis], f"{name}/row"))
    for rows, name in zip(made, outputs, strict=True):
        if name:
            context.emit("Concat", rows, [name], axis=0)


def _gemm(node: Node, _context: Context) -> Node:
    """Opset < 7: C was broadcast on request; it always is now."""
    node.attributes.pop("broadcast", None)
    return node


def _table() -> dict[str, list[tuple[int, Adapter]]]:
    axes = _attr_to_input("axes", 1)
    table: dict[str, list[tuple[int, Adapter]]] = {
        "BatchNormalization": [
            (7, _drop("is_test")),
            (9, _batch_norm_spatial),
            (14, _batch_norm_outputs),
        ],
        "Cast": [(6, _cast_string)],
        "Clip": [(11, _clip_bounds)],
        "Concat": [(4, _default("axis", 1))],
        "DFT": [(20, _dft)],
        "Dropout": [(12, _dropout)],
        "Gemm": [(7, _gemm)],
        "GridSample": [(20, _grid_sample)],
        "GroupNormalization": [(21, _group_norm)],
        "MeanVarianceNormalization": [(9, _mean_variance)],
        "PRelu": [(7, _prelu)],
        "Pad": [(11, _pad)],
        "Reshape": [(5, _attr_to_input("shape", 1))],
        "Resize": [(11, _resize_10), (ALWAYS, _resize_inputs)],
        "Scan": [(9, _scan_8)],
        "Scatter": [(11, _rename("ScatterElements"))],
        "Slice": [(10, _slice)],
        "Split": [(13, _attr_to_input("split", 1)), (18, _split_count)],
        "Squeeze": [(13, axes)],
        "Tile": [(6, _tile_1)],
        "TopK": [(10, _attr_to_input_list("k", 1))],
        "Unsqueeze": [(13, axes)],
        "Upsample": [(7, _upsample_1), (9, _upsample_9), (10, _upsample_to_resize)],
        "ReduceSum": [(13, axes)],
    }
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        table[op] = [(13, _softmax)]
    for op in ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater"):
        table[op] = [(7, _legacy_broadcast)]
    for op in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"):
        table[f"Reduce{op}"] = [(18, axes)]
    for op in ("RNN", "GRU", "LSTM"):
        table[op] = [(7, _drop("output_sequence"))]
    return table


def _attr_to_input_list(attribute: str, index: int) -> Adapter:
    """An int attribute that became an int64 input of one element."""

    def adapter(node: Node, context: Context) -> Node:
        if attribute not in node.attributes:
            raise _fail(node, f"has no {attribute}")
        values = _ints([node.attributes.pop(attribute)])
        node.put_input(index, context.constant(values, f"{node.outputs[0]}/{attribute}"))
        return node

    return adapter


def check_cast_targets(node: Node) -> None:
    """Casts to element types that dlk does not hold are refused by name."""
    to = node.attributes.get("to")
    if node.op == "Cast" and isinstance(to, int):
        dtype_name(to, f"{node.label}: the target")


ADAPTERS = _table()
