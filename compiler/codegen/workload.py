"""Workloads: what a kernel computes, apart from where it stands in a network. Equal workloads share one function.

`digest` is a name for a workload that is the same in every process, so that machine code can be kept under it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Hashable, Mapping
from enum import Enum
from typing import Any

import numpy as np

from dlc.compiler.ir import Constant, N, Value
from dlc.compiler.passes.fuse import Kernel, is_immediate


def identity(kernel: Kernel, in_place: Mapping[int, Hashable]) -> Hashable:
    """What two kernels have in common if one function serves both: ops, wiring, types, results, shared buffers."""
    number = {v: i for i, v in enumerate((*kernel.inputs, *kernel.body))}

    def reference(operand: Value) -> Hashable:
        if is_immediate(operand):
            assert isinstance(operand.op, Constant)
            return operand.type, operand.op.value.tobytes()
        return number[operand]

    body = tuple((v.op, v.type, tuple(map(reference, v.operands))) for v in kernel.body)
    inputs = tuple(v.type for v in kernel.inputs)
    return inputs, body, tuple(number[r] for r in kernel.results), tuple(sorted(in_place.items()))


def depends_on_batch(kernel: Kernel) -> bool:
    """Whether the shape of one of the kernel's tensors has a symbolic batch."""
    return any(N in v.type.shape for v in (*kernel.inputs, *kernel.body))


def digest(*parts: Any) -> str:
    """SHA-256 of plain data, ops and types, in hex: the same in every process for equal parts.

    Raises TypeError for an object whose content cannot be told from outside.
    """
    return hashlib.sha256(_spelled(parts).encode()).hexdigest()


def _spelled(part: Any) -> str:
    if part is None or isinstance(part, bool | int | float | str):
        return repr(part)
    if isinstance(part, Enum):
        return f"{type(part).__qualname__}.{part.name}"
    if isinstance(part, bytes):
        return f"bytes:{part.hex()}"
    if isinstance(part, np.ndarray | np.generic):
        return f"{part.dtype}{part.shape}:{np.ascontiguousarray(part).tobytes().hex()}"
    if isinstance(part, tuple | list):
        return f"({','.join(map(_spelled, part))})"
    if isinstance(part, frozenset):
        return f"{{{','.join(sorted(map(_spelled, part)))}}}"
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = ",".join(_spelled(getattr(part, f.name)) for f in dataclasses.fields(part))
        return f"{type(part).__module__}.{type(part).__qualname__}({fields})"
    if hasattr(part, "__struct_fields__"):  # msgspec's structs: layouts
        fields = ",".join(_spelled(getattr(part, name)) for name in part.__struct_fields__)
        return f"{type(part).__module__}.{type(part).__qualname__}({fields})"
    raise TypeError(f"{type(part).__qualname__} has no spelling that identifies it: {part!r}")
