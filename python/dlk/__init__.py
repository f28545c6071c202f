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

    from dlk import bench as bench
    from dlk import data as data
    from dlk import images as images
    from dlk import importers as importers
    from dlk import nn as nn
    from dlk import optim as optim
    from dlk import plot as plot
    from dlk import precision as precision
    from dlk import roofline as roofline
    from dlk import train as train
    from dlk import zoo as zoo
    from dlk._core import CompileError as CompileError
    from dlk._core import DeviceLostError as DeviceLostError
    from dlk._core import Error as Error
    from dlk._core import Graph as Graph
    from dlk._core import __version__ as __version__
    from dlk.device import Device as Device
    from dlk.device import devices as devices
    from dlk.gradients import grad as grad
    from dlk.model import Model as Model
    from dlk.model import Profile as Profile
    from dlk.model import Run as Run
    from dlk.model import load as load
    from dlk.tensor import Tensor as Tensor
    from dlk.tensor import from_dlpack as from_dlpack

# Where each public name is. Loaded when first used: `import dlk` itself loads neither the engine
# nor NumPy. Type checkers read the imports above; a test holds both together.
_HOMES = {
    **dict.fromkeys(
        ("bench", "data", "images", "importers", "nn", "optim", "plot", "precision", "roofline",
         "train", "zoo"),
        "dlk",
    ),
    **dict.fromkeys(
        ("CompileError", "DeviceLostError", "Error", "Graph", "__version__"), "dlk._core"
    ),
    **dict.fromkeys(("Device", "devices"), "dlk.device"),
    "grad": "dlk.gradients",
    **dict.fromkeys(("Model", "Profile", "Run", "load"), "dlk.model"),
    **dict.fromkeys(("Tensor", "from_dlpack"), "dlk.tensor"),
}  # fmt: skip

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    import importlib

    home = _HOMES.get(name, "dlk" if name == "_core" else "")
    if not home:
        raise AttributeError(f"module 'dlk' has no attribute {name!r}")
    module = importlib.import_module(f"dlk.{name}" if home == "dlk" else home)
    value = module if home == "dlk" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
