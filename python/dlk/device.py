"""Devices: what is there, and which one to use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlk import _core

__all__ = ["Device", "as_device", "devices"]

# Compiled kernels of measured devices ship with the package: first starts compile less.
for _pack in sorted(Path(__file__).parent.glob("data/*.pack")):
    _core.add_kernel_pack(str(_pack))


class Device:
    """A GPU, or a CPU driver of a GPU API.

    Args:
        spec: ``"vulkan"`` (its first device), ``"opencl:1"``, ``"name:H200"`` (a part of the name),
            or ``""``: ``DLK_DEVICE`` if set, else the best device.

    Raises:
        ValueError: no such device; the message lists what is there and why a backend is not.
    """

    def __init__(self, spec: str = "") -> None:
        self._handle: _core.Device | None = _core.open_device(spec)
        self._caps: dict[str, Any] = self._handle.caps

    @classmethod
    def _listed(cls, caps: dict[str, Any]) -> Device:
        device = cls.__new__(cls)
        device._handle, device._caps = None, caps
        return device

    @property
    def handle(self) -> _core.Device:
        """The engine's device; opened when it is first needed."""
        if self._handle is None:
            self._handle = _core.open_device(self.id)
        return self._handle

    @property
    def id(self) -> str:
        """For example ``"vulkan:0"``."""
        return str(self._caps["id"])

    @property
    def backend(self) -> str:
        """``"opencl"``, ``"vulkan"``, ..."""
        return str(self._caps["backend"])

    @property
    def name(self) -> str:
        """The driver's name for the device."""
        return str(self._caps["name"])

    @property
    def memory_bytes(self) -> int:
        """Size of the largest device-local memory."""
        return int(self._caps["memory_bytes"])

    @property
    def fp16(self) -> bool:
        """Tensors can be stored in float16."""
        return bool(self._caps["fp16"])

    @property
    def caps(self) -> dict[str, Any]:
        """All limits and features: the driver's own figures."""
        return dict(self._caps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Device({self.id!r}, name={self.name!r})"


def devices() -> list[Device]:
    """All devices that dlk can use, the backends in turn; empty where no driver is installed.

    Devices are opened when they are first used. ``dlk devices`` on the command line also says why a
    backend has none.
    """
    return [Device._listed(caps) for caps in _core.list_devices()]


def as_device(device: Device | str | None) -> Device:
    """A device from its spec; None is the default device."""
    return device if isinstance(device, Device) else Device(device or "")
