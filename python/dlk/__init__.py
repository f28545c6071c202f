"""dlk: neural networks on any GPU, through OpenCL, Vulkan and Metal, from one engine.

    >>> import dlk
    >>> model = dlk.load("efficientnet_lite0")
    >>> scores = model(image)  # NumPy arrays: (N, 3, 224, 224) in, (N, 1000) out

Devices are named ``"vulkan"``, ``"vulkan:1"``, ``"opencl"`` or ``"name:TEXT"``; without a name,
``DLK_DEVICE`` or the best device is taken. Wrong arguments raise ``ValueError``, what a device or
dlk cannot do raises ``NotImplementedError``, too little memory raises ``MemoryError``, and every
other failure of the engine raises ``dlk.Error``.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it; `typing` itself takes a while to load
if TYPE_CHECKING:
    from typing import Any

    from dlk import bench, data, images, importers, nn, optim, plot, precision, train, zoo
    from dlk._core import CompileError, DeviceLostError, Error, Graph, __version__
    from dlk.device import Device, devices
    from dlk.gradients import grad
    from dlk.model import Model, Profile, Run, load
    from dlk.tensor import Tensor, from_dlpack

__all__ = [
    "CompileError",
    "Device",
    "DeviceLostError",
    "Error",
    "Graph",
    "Model",
    "Profile",
    "Run",
    "Tensor",
    "__version__",
    "bench",
    "data",
    "devices",
    "from_dlpack",
    "grad",
    "images",
    "importers",
    "load",
    "nn",
    "optim",
    "plot",
    "precision",
    "train",
    "zoo",
]

# Loaded when they are first used: `import dlk` itself loads neither the engine nor NumPy.
_HOMES = {
    "CompileError": "dlk._core",
    "Device": "dlk.device",
    "DeviceLostError": "dlk._core",
    "devices": "dlk.device",
    "Error": "dlk._core",
    "Graph": "dlk._core",
    "Model": "dlk.model",
    "Profile": "dlk.model",
    "Run": "dlk.model",
    "load": "dlk.model",
    "grad": "dlk.gradients",
    "Tensor": "dlk.tensor",
    "__version__": "dlk._core",
    "from_dlpack": "dlk.tensor",
}
_SUBMODULES = frozenset(
    {
        "_core",
        "bench",
        "data",
        "images",
        "importers",
        "nn",
        "optim",
        "plot",
        "precision",
        "train",
        "zoo",
    }
)


def __getattr__(name: str) -> Any:
    import importlib

    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _SUBMODULES:
        value = importlib.import_module(f"dlk.{name}")
    else:
        raise AttributeError(f"module 'dlk' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
