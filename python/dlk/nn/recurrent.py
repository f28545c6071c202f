"""Recurrent layers, with the parameter names, gate orders and defaults of `torch.nn`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import functional as F
from .builder import GraphBuilder, Value
from .module import Module, Parameter, normal


class _Recurrent(Module):
    """One layer over (sequence, batch, features).

    Weights are reordered for ONNX when the graph is built. Where they are trained, the operator
    takes them as they are (LSTM) or the graph reorders them (GRU).
    """

    op = ""
    order: Sequence[int] = ()
    """PyTorch's gate at each of ONNX's places."""
    own_order: str = ""
    """PyTorch's order by ONNX's names, where the operator has it as an attribute."""
    adds_biases = True
    """The operator only needs the sum of the two biases."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        batch_first: bool = False,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        n, rows = hidden_size, len(self.order) * hidden_size
        spread = normal(1.0 / max(n, 1) ** 0.5)
        self.endings = ["_l0", "_l0_reverse"] if bidirectional else ["_l0"]
        for ending in self.endings:
            setattr(self, f"weight_ih{ending}", Parameter((rows, input_size), spread))
            setattr(self, f"weight_hh{ending}", Parameter((rows, n), spread))
            setattr(self, f"bias_ih{ending}", Parameter((rows,)))
            setattr(self, f"bias_hh{ending}", Parameter((rows,)))
        self.hidden_size, self.batch_first = n, batch_first

    def forward(self, *inputs: Value, lengths: Value | None = None) -> tuple[Value, ...]:
        """(x[, state ...]) to (y, state ...).

        y is (sequence, batch, directions * hidden); states are (directions, batch, hidden), h for
        all and c for an LSTM. `lengths` (batch), int32: what is beyond a sample's length does not
        count, and y is 0 there.
        """
        x, *state = inputs
        b, n, directions = x.builder, self.hidden_size, len(self.endings)
        if self.batch_first:
            x = F.transpose(x, (1, 0, 2))
        values: list[Value | None] = [
            x,
            self._stacked(b, "weight_ih"),
            self._stacked(b, "weight_hh"),
            self._biases(b),
        ]
        if state or lengths is not None:
            values += [lengths, *state]
        last = (directions, x.shape[1], n)
        shapes = [(x.shape[0], directions, x.shape[1], n), last]
        if self.op == "LSTM":
            shapes.append(last)
        attributes = self._attributes()
        if b.trainable and self.own_order:
            attributes["gate_order"] = self.own_order
        if b.trainable and self.adds_biases:
            attributes["bias_sum"] = 1
        y, *states = b.ops(self.op, values, shapes, attributes, dtype=x.dtype)
        y = F.transpose(y, (0, 2, 1, 3))
        shape = (x.shape[0], x.shape[1], directions * n)
        y = b.op("Reshape", [y, b.ints([0, 0, directions * n], "shape")], shape)
        return (F.transpose(y, (1, 0, 2)) if self.batch_first else y), *states

    def _attributes(self) -> dict[str, int | str]:
        both = "bidirectional" if len(self.endings) == 2 else "forward"
        return {"hidden_size": self.hidden_size, "direction": both}

    def _stacked(self, b: GraphBuilder, *names: str) -> Value:
        """(directions, gates of all parameters, ...), each in ONNX's order."""
        rows = [
            self._reordered(b, [self._parameters[name + ending] for name in names])
            for ending in self.endings
        ]
        if len(rows) == 1:
            return rows[0]
        return b.op("Concat", rows, (len(rows), *rows[0].shape[1:]), {"axis": 0})

    def _biases(self, b: GraphBuilder) -> Value:
        if not (b.trainable and self.adds_biases):
            return self._stacked(b, "bias_ih", "bias_hh")
        return self._stacked(b, "bias_ih") + self._stacked(b, "bias_hh")

    def _reordered(self, b: GraphBuilder, parameters: list[Parameter]) -> Value:
        count = len(self.order)
        if not b.trainable:
            parts: list[np.ndarray] = []
            for p in parameters:
                if p.value is None:
                    raise ValueError(
                        f"the {type(self).__name__} has no weights; call initialize() or "
                        "load_state_dict()"
                    )
                gates = np.split(p.value, count)
                parts += [gates[i] for i in self.order]
            return b.constant(np.concatenate(parts)[None], f"{parameters[0].name} reordered")
        values = [b.parameter(p) for p in parameters]
        rows, rest = sum(p.shape[0] for p in parameters), parameters[0].shape[1:]
        joined = values[0] if len(values) == 1 else b.op("Concat", values, (rows,), {"axis": 0})
        order = [count * i + gate for i in range(len(parameters)) for gate in self.order]
        if order != sorted(order) and not self.own_order:
            shape = (len(order), self.hidden_size, *rest)
            apart = b.op("Reshape", [joined, b.ints(shape, "gates")], shape)
            joined = b.op("Gather", [apart, b.ints(order, "order")], shape, {"axis": 0})
        whole = (1, rows, *rest)
        return b.op("Reshape", [joined, b.ints(whole, "rows")], whole)


class LSTM(_Recurrent):
    """Long short-term memory; gates in PyTorch's order (i, f, g, o).

    Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997).
    """

    op, order, own_order = "LSTM", (0, 3, 1, 2), "ifco"


class GRU(_Recurrent):
    """Gated recurrent unit; gates in PyTorch's order (r, z, n).

    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (2014).
    """

    op, order, adds_biases = "GRU", (1, 0, 2), False

    def _attributes(self) -> dict[str, int | str]:
        return {**super()._attributes(), "linear_before_reset": 1}


class RNN(_Recurrent):
    """Elman's network with tanh."""

    op, order = "RNN", (0,)


__all__ = ["GRU", "LSTM", "RNN"]
