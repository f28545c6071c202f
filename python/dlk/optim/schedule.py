"""Learning rates by step. A schedule is a function from the step (0, 1, ...) to a rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[int], float]


def constant(rate: float) -> Schedule:
    """The same rate always."""
    return lambda _: rate


def as_schedule(rate: float | Schedule) -> Schedule:
    """A number as a constant schedule."""
    return rate if callable(rate) else constant(float(rate))


def steps(rate: float, milestones: Sequence[int], factor: float = 0.1) -> Schedule:
    """`rate`, multiplied by `factor` at each milestone."""
    ordered = sorted(milestones)
    return lambda step: rate * factor ** sum(step >= m for m in ordered)


def cosine(rate: float, steps: int, lowest: float = 0.0, warmup: int = 0) -> Schedule:
    """From `rate` down to `lowest` along half a cosine in `steps`, after a linear warm-up.

    Loshchilov and Hutter, "SGDR" (2017), equation 5.
    """
    if steps <= warmup:
        raise ValueError(f"{steps} steps leave nothing after a warm-up of {warmup}")

    def at(step: int) -> float:
        part = min(max(step - warmup, 0) / (steps - warmup), 1.0)
        return lowest + 0.5 * (rate - lowest) * (1.0 + math.cos(math.pi * part))

    return warm_up(at, warmup)


def one_cycle(
    highest: float, steps: int, rise: float = 0.3, start: float = 25.0, end: float = 1e4
) -> Schedule:
    """From highest / start up to `highest` in the first part `rise` of `steps`, then down to
    highest / start / end, both along half a cosine.

    Smith and Topin, "Super-Convergence" (2018); PyTorch's OneCycleLR.
    """
    if steps < 2:
        raise ValueError("one cycle takes at least 2 steps")
    first, last = highest / start, highest / start / end
    top = rise * steps - 1

    def between(a: float, b: float, part: float) -> float:
        return b + (a - b) / 2.0 * (1.0 + math.cos(math.pi * part))

    def at(step: int) -> float:
        at_step = min(step, steps - 1)
        if at_step <= top:
            return between(first, highest, at_step / top)
        return between(highest, last, (at_step - top) / (steps - 1 - top))

    return at


def warm_up(rate: float | Schedule, count: int) -> Schedule:
    """The schedule, scaled up linearly over its first `count` steps."""
    base = as_schedule(rate)
    return lambda step: base(step) * min(1.0, (step + 1) / count) if count else base(step)
