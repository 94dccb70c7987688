"""Arrays at the door: what callers may pass, checked with a clear fault each, and arrays that kernels can read."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

from dlc.runtime.errors import RuntimeFault
from dlc.runtime.memory import ALIGNMENT, resolve_shape
from dlc.runtime.plan import BATCH, TensorSpec


@cache
def element_type(dtype: str) -> np.dtype[Any]:
    """numpy's type for a name of the plan; ml_dtypes provides those that numpy lacks."""
    try:
        return np.dtype(dtype)
    except TypeError:
        import ml_dtypes  # only for bfloat16 and float8: 5 ms that most artifacts never need

        kind: np.dtype[Any] = np.dtype(getattr(ml_dtypes, dtype))
        return kind


def aligned_empty(shape: Sequence[int], dtype: str | np.dtype[Any]) -> np.ndarray:
    """An uninitialised array that starts at a multiple of 64 bytes, as kernels require."""
    kind = element_type(dtype) if isinstance(dtype, str) else dtype
    size = prod(shape) * kind.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(kind).reshape(tuple(shape))


def aligned_zeros(shape: Sequence[int], dtype: str | np.dtype[Any]) -> np.ndarray:
    """An array of zeros that starts at a multiple of 64 bytes; it takes memory once it is written to."""
    kind = element_type(dtype) if isinstance(dtype, str) else dtype
    size = prod(shape) * kind.itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(kind).reshape(tuple(shape))


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """A contiguous copy that starts at a multiple of 64 bytes."""
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def is_aligned(array: np.ndarray) -> bool:
    """Contiguous, and at a multiple of 64 bytes: kernels can use it as it is."""
    return array.flags.c_contiguous and (array.ctypes.data % ALIGNMENT == 0 or array.nbytes == 0)


def aligned(array: np.ndarray) -> np.ndarray:
    """The array itself where kernels can use it as it is, else a copy that they can."""
    return array if is_aligned(array) else aligned_copy(array)


def exportable(array: np.ndarray) -> np.ndarray:
    """What DLPack can carry: bfloat16 as its bits, as kernels on processors take it; other arrays as they are."""
    return array.view(np.uint16) if array.dtype.kind == "V" and array.dtype.itemsize == 2 else array


def writable_alias(array: np.ndarray) -> np.ndarray:
    """The same memory without numpy's read-only mark, which DLPack refuses to export. Kernels only read it.

    The caller keeps `array` alive.
    """
    if array.flags.writeable:
        return array
    memory = memoryview((ctypes.c_char * array.nbytes).from_address(array.ctypes.data)).cast("B")
    return np.frombuffer(memory, np.uint8).view(array.dtype).reshape(array.shape)


def to_numpy(spec: TensorSpec, value: object) -> np.ndarray:
    """An input as a numpy array without a copy: numpy's own, or anything that speaks DLPack (torch, jax, cupy on a CPU).

    Scalars (`spec.shape` is ()) may be Python numbers. Raises RuntimeFault for anything else.
    """
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if spec.shape == () and isinstance(value, int | float) and not isinstance(value, bool):
        return _scalar(spec, value)
    if hasattr(value, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise _not_exported(spec, value, error) from error
    raise RuntimeFault(
        "R0201",
        f"input {spec.name!r} must be an array, got {type(value).__name__}",
        help=f'make one: numpy.asarray(…, dtype="{spec.dtype}")',
    )


def _scalar(spec: TensorSpec, value: float) -> np.ndarray:
    kind = element_type(spec.dtype)
    if kind.kind in "iu" and not isinstance(value, int):
        raise RuntimeFault("R0203", f"input {spec.name!r} is a whole number ({spec.dtype}), got {value!r}")
    try:
        return np.array(value, kind)
    except OverflowError as error:
        raise RuntimeFault("R0203", f"input {spec.name!r} is {spec.dtype}, which cannot hold {value!r}") from error


def _not_exported(spec: TensorSpec, value: object, error: Exception) -> RuntimeFault:
    kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
    if getattr(value, "requires_grad", False):
        return RuntimeFault(
            "R0202", f"input {spec.name!r} is a {kind} that records gradients", help="pass tensor.detach()"
        )
    place = getattr(value, "device", None)
    if place is not None and "cpu" not in str(place).lower():
        return RuntimeFault(
            "R0202", f"input {spec.name!r} lies on {place}, not in main memory", help="move it first: tensor.cpu()"
        )
    dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
    if dtype and dtype != spec.dtype:
        return wrong_type(spec, dtype)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return RuntimeFault(
        "R0202", f"input {spec.name!r} ({kind}) cannot be read: {reason}", help="pass a contiguous array in main memory"
    )


def wrong_type(spec: TensorSpec, dtype: str) -> RuntimeFault:
    """The fault for an array of the wrong element type. Nothing is converted silently: rounding is the caller's choice."""
    advice = f'convert it: array.astype("{spec.dtype}")'
    if dtype == "uint8" and spec.dtype.startswith("float"):
        advice = f'net.preprocess scales images of bytes; array.astype("{spec.dtype}") keeps 0 to 255'
    elif dtype == "object":
        advice = "its rows may have different lengths: numpy cannot make numbers of them"
    return RuntimeFault("R0203", f"input {spec.name!r} must be {spec.dtype}, got {dtype}", help=advice)


def check_inputs(
    specs: Sequence[TensorSpec], values: Sequence[object], fixed_batch: int = BATCH
) -> tuple[list[np.ndarray], int]:
    """All inputs as numpy arrays of the right type and shape, and the number of samples (1 if no input has any).

    Raises RuntimeFault for the first input that does not fit, stating what was expected, what came, and the remedy.
    """
    arrays: list[np.ndarray] = []
    batch, first = fixed_batch, ""
    for spec, value in zip(specs, values, strict=True):
        array = to_numpy(spec, value)
        if array.dtype != element_type(spec.dtype):
            raise wrong_type(spec, array.dtype.name if array.dtype.isnative else f"byte-swapped {array.dtype.name}")
        if array.ndim != len(spec.shape) or any(
            w not in (BATCH, h) for w, h in zip(spec.shape, array.shape, strict=True)
        ):
            raise _wrong_shape(spec, array.shape)
        if spec.shape and spec.shape[0] == BATCH:
            if batch == BATCH:
                batch, first = array.shape[0], spec.name
            elif array.shape[0] != batch:
                raise _wrong_batch(spec, array.shape[0], batch, first)
        arrays.append(array)
    return arrays, 1 if batch == BATCH else batch


def describe(shape: Sequence[int]) -> str:
    """A shape as people read it: [N, 1, 32, 32]."""
    return "[" + ", ".join("N" if n == BATCH else str(n) for n in shape) + "]"


def _wrong_shape(spec: TensorSpec, shape: tuple[int, ...]) -> RuntimeFault:
    want = spec.shape
    advice = ""
    if want and want[0] == BATCH:
        rest = want[1:]
        if shape == rest:
            advice = "add a batch dimension: array[None]"
        elif len(rest) == 3 and rest[0] == 1 and shape == rest[1:]:
            advice = "add batch and channel dimensions: array[None, None]"
        elif len(rest) == 3 and rest[0] == 1 and shape[1:] == rest[1:]:
            advice = "add a channel dimension: array[:, None]"
        elif len(rest) == 3 and len(shape) == 4 and (shape[3], shape[1], shape[2]) == rest:
            advice = "channels come first: array.transpose(0, 3, 1, 2)"
        elif len(rest) == 3 and len(shape) == 3 and (shape[2], shape[0], shape[1]) == rest:
            advice = "channels come first, after a batch dimension: array.transpose(2, 0, 1)[None]"
        elif len(rest) == 3:
            advice = "net.preprocess resizes and scales images"
        elif len(rest) == 1 and len(shape) > 1 and prod(shape[1:]) == rest[0]:
            advice = "flatten each sample: array.reshape(len(array), -1)"
    return RuntimeFault(
        "R0204", f"input {spec.name!r} must have shape {describe(want)}, got {describe(shape)}", help=advice
    )


def _wrong_batch(spec: TensorSpec, have: int, batch: int, first: str) -> RuntimeFault:
    if first:
        return RuntimeFault(
            "R0205",
            f"input {spec.name!r} holds {have} samples, but {first!r} holds {batch}",
            help="pass the same number of samples to each input",
        )
    return RuntimeFault(
        "R0205",
        f"this program is compiled for batches of {batch}, but input {spec.name!r} holds {have}",
        help=f"pass {describe(resolve_shape(spec.shape, batch))}, or compile without a fixed batch",
    )


def check_output(spec: TensorSpec, array: object, batch: int) -> np.ndarray:
    """An array that the caller gives for a result. Raises RuntimeFault where the result cannot be written into it."""
    shape = resolve_shape(spec.shape, batch)
    if not isinstance(array, np.ndarray):
        raise RuntimeFault("R0206", f"output {spec.name!r} must be a numpy array, got {type(array).__name__}")
    if array.dtype != element_type(spec.dtype) or array.shape != shape:
        raise RuntimeFault(
            "R0206",
            f"output {spec.name!r} is {spec.dtype} {describe(shape)}, but the array given for it is "
            f"{array.dtype} {describe(array.shape)}",
        )
    if not array.flags.writeable:
        raise RuntimeFault("R0206", f"the array given for output {spec.name!r} is read-only")
    return array
