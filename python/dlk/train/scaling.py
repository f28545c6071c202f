"""Loss scaling for 16-bit gradients, on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlk.nn import arithmetic as A
from dlk.nn.builder import GraphBuilder, Value


class LossScale:
    """Multiplies the loss so that small gradients survive 16 bits: halved after an overflow (whose
    step changes nothing), doubled after `interval` good steps.

    Micikevicius et al., "Mixed Precision Training" (2018), section 3.2.
    """

    def __init__(
        self, initial: float = 1024.0, interval: int = 2000, largest: float = 32768.0
    ) -> None:
        self.initial, self.interval, self.largest = initial, interval, largest
        self._scale: Value | None = None

    def scaled(self, builder: GraphBuilder, loss: Value) -> Value:
        """The loss times the scale, a variable."""
        self._scale = builder.variable("loss_scale", np.array([self.initial], np.float32))
        return loss * self._scale

    def update(self, builder: GraphBuilder, gradients: Sequence[Value]) -> Value:
        """Adds the scale's own update; returns 1 / scale, or NaN after an overflow."""
        assert self._scale is not None
        scale = self._scale
        good_steps = builder.variable("loss_scale/good_steps", np.zeros(1, np.float32))
        # 0 where every gradient is finite, NaN otherwise.
        worst = builder.op("Overflow", gradients, (1,), dtype="float32", domain="dlk")
        overflow = builder.op("IsNaN", [worst], worst.shape, dtype="bool")
        count = good_steps + 1.0
        grows = A.less(builder.value_of(float(self.interval) - 0.5, "float32"), count)
        grown = A.minimum(A.where(grows, scale * 2.0, scale), self.largest)
        builder.graph.assign(scale.id, A.where(overflow, A.maximum(scale * 0.5, 1.0), grown).id)
        kept = A.where(grows, count * 0.0, count)
        builder.graph.assign(good_steps.id, A.where(overflow, count * 0.0, kept).id)
        return 1.0 / scale + worst
