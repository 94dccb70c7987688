"""Element types, dimensions and tensor types of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dlc.runtime.deferred import np


class Batch(Enum):
    """The one symbolic dimension: the number of samples, known only when a network is called."""

    N = "N"

    def __repr__(self) -> str:
        return "N"

    __str__ = __repr__


N = Batch.N
Dim = int | Batch
Shape = tuple[Dim, ...]


class DType(Enum):
    """Element types; the value is numpy's name for it (`bfloat16` through ml_dtypes)."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT32 = "int32"
    INT64 = "int64"
    UINT32 = "uint32"
    UINT8 = "uint8"
    BOOL = "bool"

    def __str__(self) -> str:
        return self.value

    @property
    def is_float(self) -> bool:
        return self in (DType.FLOAT32, DType.FLOAT64, DType.FLOAT16, DType.BFLOAT16)

    @property
    def is_reduced(self) -> bool:
        """A float of 16 bits: products of them are summed as float32."""
        return self in (DType.FLOAT16, DType.BFLOAT16)

    @property
    def numpy(self) -> np.dtype:
        if self is DType.BFLOAT16:
            import ml_dtypes  # imported where it is needed: it costs start-up time and few graphs hold bfloat16

            return np.dtype(ml_dtypes.bfloat16)  # type: ignore[no-any-return]  # ml_dtypes is untyped
        return np.dtype(str(self.value))


@dataclass(frozen=True)
class TensorType:
    """Shape and element type of a value. Only the first dimension may be the batch `N`."""

    shape: Shape
    dtype: DType = DType.FLOAT32

    @property
    def rank(self) -> int:
        return len(self.shape)

    def with_shape(self, *shape: Dim) -> TensorType:
        return TensorType(tuple(shape), self.dtype)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(self.shape, dtype)

    def sums(self, *shape: Dim) -> TensorType:
        """The type, of this shape, of sums of products of elements: float32 where these are narrower floats."""
        return TensorType(tuple(shape), DType.FLOAT32 if self.dtype.is_reduced else self.dtype)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"
