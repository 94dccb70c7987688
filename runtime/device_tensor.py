"""Tensors over memory that numpy does not know: DLPack capsules made of an address, a shape and a type."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from dlc.runtime.memory import item_bytes

_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "bool": 6}


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("rank", ctypes.c_int32),
        ("type", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


_alive: dict[int, tuple[Any, ...]] = {}
"""What a consumer of a capsule still uses, by the address of its managed tensor."""


@_Deleter  # type: ignore[untyped-decorator]  # ctypes makes a function for C of it
def _release(address: int) -> None:
    _alive.pop(address, None)


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


class DeviceArray:
    """A contiguous array on a device that `torch.from_dlpack`, `cupy.from_dlpack` and kernels take without a copy.

    `kind` is DLPack's number of the kind of device. `free` is called when nobody uses the memory any more.
    """

    def __init__(
        self, address: int, shape: Sequence[int], dtype: str, kind: int, free: Callable[[int], None] | None = None
    ) -> None:
        self.address, self.shape, self.dtype = address, tuple(shape), dtype
        self._kind, self._free = kind, free

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._kind, 0

    def __dlpack__(self, **options: Any) -> Any:
        """A capsule. The memory is ready: whoever returns an array has waited for the device."""
        rank = len(self.shape)
        shape = (ctypes.c_int64 * max(rank, 1))(*self.shape)
        strides: list[int] = []
        step = 1
        for extent in reversed(self.shape):
            strides.insert(0, step)
            step *= extent
        steps = (ctypes.c_int64 * max(rank, 1))(*strides)
        name = self.dtype.rstrip("0123456789")
        kind = _Type(_CODES[name], item_bytes(self.dtype) * 8, 1)
        tensor = _Tensor(
            self.address,
            _Device(self._kind, 0),
            rank,
            kind,
            ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64)),
            ctypes.cast(steps, ctypes.POINTER(ctypes.c_int64)),
            0,
        )
        managed = _Managed(tensor, None, _release)
        address = ctypes.addressof(managed)
        _alive[address] = managed, shape, steps, self
        return _new_capsule(address, b"dltensor", None)

    def __del__(self) -> None:
        if self._free is not None:
            self._free(self.address)

    def __repr__(self) -> str:
        return f"<dlc.DeviceArray {list(self.shape)} {self.dtype}>"


class OnStream:
    """A caller's array on a device, asked for its memory such that work on our stream sees what its own stream wrote."""

    def __init__(self, array: Any, stream: int) -> None:
        self._array, self._stream = array, stream

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        """The array's capsule, for our stream."""
        return self._array.__dlpack__(stream=self._stream)
