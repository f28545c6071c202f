"""Optimizers as device kernels, with PyTorch's names and defaults, and learning-rate schedules.

    optimizer = optim.AdamW(lr=optim.cosine(3e-4, steps=1000, warmup=100), weight_decay=0.05)

An optimizer adds its update to a training graph; the parameters and its state are variables that a
run updates in place. ``clip_norm`` limits the norm of all gradients together, ``clip_value`` each
number. `Custom` states an update as an expression in Python.
"""

from .optimizer import Custom, Optimizer
from .rules import SGD, Adagrad, Adam, AdamW, Lion, RMSProp
from .schedule import Schedule, constant, cosine, one_cycle, steps, warm_up

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Custom",
    "Lion",
    "Optimizer",
    "RMSProp",
    "Schedule",
    "constant",
    "cosine",
    "one_cycle",
    "steps",
    "warm_up",
]
