"""Tensors in device memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlk import _core
from dlk.device import Device, as_device

__all__ = ["Tensor", "from_dlpack"]

_CPU = (1, 0)  # DLPack's kDLCPU


class Tensor:
    """A dense, row-major tensor in the memory of a device; immutable.

    Args:
        data: anything that NumPy reads; float64 and integers keep their dtype.
        device: where to put it; None is the default device.
        dtype: convert to this dtype first. ``"bfloat16"`` takes ``ml_dtypes.bfloat16`` arrays or
            the bits of the numbers as uint16.

    Tensors are passed to models without a copy: ``model(tensor)`` returns tensors that stay on the
    device. ``numpy()``, ``np.asarray(tensor)`` and DLPack copy to the host.
    """

    def __init__(
        self, data: ArrayLike, device: Device | str | None = None, dtype: str | None = None
    ) -> None:
        array = np.asarray(data)
        bits = dtype == "bfloat16" and array.dtype.name in ("uint16", "bfloat16")
        if dtype is not None and not bits:
            array = array.astype(_numpy_dtype(dtype))
        self._device = as_device(device)
        self._handle = _core.DeviceTensor.upload(
            self._device.handle, array, "bfloat16" if bits else ""
        )

    @classmethod
    def _of(cls, handle: _core.DeviceTensor, device: Device) -> Tensor:
        tensor = cls.__new__(cls)
        tensor._handle, tensor._device = handle, device
        return tensor

    @classmethod
    def empty(
        cls, shape: tuple[int, ...], dtype: str = "float32", device: Device | str | None = None
    ) -> Tensor:
        """A tensor of undefined contents."""
        where = as_device(device)
        return cls._of(_core.DeviceTensor.empty(where.handle, dtype, shape), where)

    @property
    def handle(self) -> _core.DeviceTensor:
        """The engine's tensor."""
        return self._handle

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions."""
        return self._handle.shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self._handle.shape)

    @property
    def dtype(self) -> str:
        """NumPy's name of the element type, or ``"bfloat16"``."""
        return self._handle.dtype

    @property
    def device(self) -> Device:
        """Where the tensor is."""
        return self._device

    def numpy(self) -> NDArray[Any]:
        """A copy in host memory; waits for the device.

        bfloat16 becomes ``ml_dtypes.bfloat16`` where that package is installed, else uint16 bits.
        """
        return self._handle.read()

    def to(self, device: Device | str) -> Tensor:
        """The tensor on another device, copied through host memory; itself if it is there."""
        where = as_device(device)
        if where == self._device:
            return self
        bits = "bfloat16" if self.dtype == "bfloat16" else ""
        return Tensor._of(_core.DeviceTensor.upload(where.handle, self.numpy(), bits), where)

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a device tensor cannot be seen by NumPy without a copy")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def __dlpack__(self, **kwargs: Any) -> Any:
        """A DLPack capsule of a copy in host memory: other packages never share device memory."""
        if kwargs.get("copy") is False:
            raise BufferError("dlk exports DLPack as a copy in host memory; copy=False cannot be")
        if kwargs.get("dl_device") not in (None, _CPU):
            raise BufferError("dlk exports DLPack to the CPU only")
        arguments = {"max_version": kwargs["max_version"]} if kwargs.get("max_version") else {}
        return self.numpy().__dlpack__(**arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        """The CPU: where the exported copy is."""
        return _CPU

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor of no dimensions has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Tensor(shape={self.shape}, dtype={self.dtype}, device={self._device.id})"


def from_dlpack(source: Any, device: Device | str | None = None) -> Tensor:
    """A tensor with the contents of any CPU array that speaks DLPack (torch, JAX, ...).

    The data are copied to the device. Raises BufferError for arrays on a GPU: move them to the CPU
    with their own package first.
    """
    if not hasattr(source, "__dlpack_device__"):
        raise ValueError(f"{type(source).__name__} does not speak DLPack; use dlk.Tensor(array)")
    kind = int(source.__dlpack_device__()[0])
    if kind not in (1, 3, 11):  # CPU, CUDA's pinned and ROCm's pinned host memory
        raise BufferError("the array is in GPU memory; move it to the CPU before dlk.from_dlpack")
    return Tensor(np.from_dlpack(source), device)


def _numpy_dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise ValueError(
                "converting to bfloat16 needs the package ml_dtypes; without it, pass uint16 bits"
            ) from None
        converted: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return converted
    try:
        return np.dtype(name)
    except TypeError:
        raise ValueError(f"unknown dtype {name!r}; use a NumPy name such as float32") from None
