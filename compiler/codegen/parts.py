"""Tensors that are parts of larger ones: what is concatenated is written where it belongs, and read there.

A kernel is lowered as if each of its tensors were whole; then `place` exchanges the parameter for the larger tensor and moves
every index along one axis. The concatenation itself needs no kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Range, TensorLoad, TensorRegion

from dlc.compiler.codegen.emit import Part
from dlc.compiler.ir import N


def place(function: Any, parts: Mapping[int, Part]) -> Any:
    """The lowered function with some of its parameters, by position, exchanged for the tensors that they are parts of."""
    if not parts:
        return function
    params = list(function.params)
    whole = {i: _whole(params[i], part) for i, part in parts.items()}

    def position(tensor: Any) -> int | None:
        return next((i for i in parts if params[i].same_as(tensor)), None)

    def moved(indices: Any, i: int) -> list[Any]:
        at = list(indices)
        if parts[i].start:
            at[parts[i].axis] = at[parts[i].axis] + parts[i].start
        return at

    def load(node: Any) -> Any:
        i = position(node.source)
        return node if i is None else tirx.BufferLoad(whole[i], moved(node.indices, i))

    def store(node: Any) -> Any:
        i = position(node.buffer)
        return node if i is None else tirx.BufferStore(whole[i], node.value, moved(node.indices, i))

    def region(node: Any) -> Any:
        i = position(node.source)
        if i is None:
            return node
        starts = moved([r.min for r in node.region], i)
        ranges = [Range.from_min_extent(low, r.extent) for low, r in zip(starts, node.region, strict=True)]
        return tirx.BufferRegion(whole[i], ranges)

    body = tvm_ffi.structural_map(
        function.body, [(TensorLoad, load), (tirx.BufferStore, store), (TensorRegion, region)]
    )
    return tirx.PrimFunc([whole.get(i, p) for i, p in enumerate(params)], body, function.ret_type, function.attrs)


def _whole(parameter: Any, part: Part) -> Any:
    shape = [
        own if dim is N else tirx.const(dim, "int64") for own, dim in zip(parameter.shape, part.shape, strict=True)
    ]
    return tirx.decl_buffer(shape, str(parameter.dtype), f"{parameter.name}_whole")
