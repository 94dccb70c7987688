"""One kernel as a TensorIR function: lowered through the ops' own computes, its blocks sorted for the schedule rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import te, tirx
from tvm.s_tir import Schedule

from dlc.compiler.choices import Cut
from dlc.compiler.codegen.lower import Lowering, Widened
from dlc.compiler.codegen.schedules.base import ELEMENTWISE, REDUCTION, Block, KernelBlocks
from dlc.compiler.codegen.target import Target
from dlc.compiler.interpret import bind_batch
from dlc.compiler.ir import Constant, DType, Value
from dlc.compiler.passes.fuse import Kernel, is_immediate


@dataclass(frozen=True)
class Immediate:
    """A scalar constant as an operand of a lowering: a tensor of shape () that is a number in the code."""

    value: Any
    dtype: str
    shape: tuple[int, ...] = ()

    def __call__(self, *indices: Any) -> Any:
        return tirx.const(self.value, self.dtype)


def lower(
    kernel: Kernel,
    batch: int | None,
    target: Target | None = None,
    cut: Cut | None = None,
    *,
    apart: Value | None = None,
) -> Any:
    """The kernel as an unscheduled PrimFunc; its parameters are the kernel's inputs, then its results.

    Parameters have the types in which the target keeps their elements in memory (`Target.stored`). `cut` is what measured best
    for it, None where the models choose. `apart` is a value that is computed elsewhere: it becomes the last parameter, and a
    result is copied from it.
    """
    t = Lowering(batch, target, cut)
    tensors: dict[Value, Any] = {}
    arguments = []
    for i, value in enumerate(kernel.inputs):
        stored = _stored(value, target)
        given = t.placeholder(value.type.with_dtype(stored), f"input{i}")
        arguments.append(given)
        read = given if stored is value.type.dtype else _converted(t, given, value.type.dtype)
        tensors[value] = t.readable(read, value.type.dtype)
    for value in kernel.body:
        if value is apart:
            tensors[value] = t.placeholder(value.type, "sums")
            continue
        op = value.op if batch is None else bind_batch(value.op, batch)
        tensors[value] = t.readable(op.lower(t, *(_operand(o, tensors) for o in value.operands)), value.type.dtype)
    for value in kernel.results:
        stored, tensor = _stored(value, target), tensors[value]
        if value is apart:
            tensor = t.compute(tensor.shape, lambda *i, sums=tensor: sums(*i), "copied")
        if stored is not value.type.dtype:
            tensor = _converted(t, tensor, stored)
        arguments.append(tensor.stored if isinstance(tensor, Widened) else tensor)
    if apart is not None:
        arguments.append(tensors[apart])
    return te.create_prim_func(arguments, index_dtype_override="int64")


def _stored(value: Value, target: Target | None) -> DType:
    """The type in which a value's elements lie in memory."""
    return value.type.dtype if target is None else target.stored(value.type.dtype)


def _converted(t: Lowering, tensor: Any, dtype: DType) -> Any:
    """The tensor in another element type."""
    return t.compute(tensor.shape, lambda *i: t.maths.cast(tensor(*i), dtype), "converted")


def _operand(value: Value, tensors: Mapping[Value, Any]) -> Any:
    if is_immediate(value):
        assert isinstance(value.op, Constant)
        return Immediate(value.op.value.item(), value.type.dtype.value)
    return tensors[value]


def blocks_of(schedule: Schedule) -> KernelBlocks:
    """The function's blocks, sorted by what they are to its anchor."""
    function = schedule.mod["main"]
    results = list(function.params)
    handles = schedule.get_child_blocks(schedule.get_sblock("root"))
    blocks: list[Block] = []
    needs: list[set[int]] = []  # by block, the blocks that it needs
    written: dict[int, int] = {}  # buffer -> the block that writes it
    for handle in handles:
        node = schedule.get(handle)
        attributes = {k: _plain(v) for k, v in node.annotations.items() if k.startswith("dlc.")}
        target = node.writes[0].source
        block = Block(
            node.name_hint,
            attributes,
            any(int(axis.iter_type) != 0 for axis in node.iter_vars),
            any(target.same_as(p) for p in results),
        )
        reads = {written[hash(r.source)] for r in node.reads if hash(r.source) in written}
        needs.append(set(reads).union(*(needs[i] for i in reads)) if reads else set())
        written[hash(target)] = len(blocks)
        blocks.append(block)
    anchor = _anchor(blocks)
    kind = blocks[anchor].attributes.get("dlc.anchor") or (REDUCTION if blocks[anchor].reduces else ELEMENTWISE)
    prologue = tuple(b for i, b in enumerate(blocks) if i in needs[anchor])
    epilogue = tuple(b for i, b in enumerate(blocks) if i != anchor and i not in needs[anchor])
    return KernelBlocks(str(kind), prologue, blocks[anchor], epilogue)


def _anchor(blocks: Sequence[Block]) -> int:
    marked = [i for i, b in enumerate(blocks) if "dlc.anchor" in b.attributes]
    reducing = [i for i, b in enumerate(blocks) if b.reduces]
    return (marked or reducing or [len(blocks) - 1])[-1]


def _plain(value: Any) -> Any:
    """An attribute as a Python value."""
    if isinstance(value, tirx.IntImm | tirx.FloatImm):
        return value.value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Sequence):
        return tuple(map(_plain, value))
    return value


def share_buffers(function: Any, in_place: Mapping[int, int]) -> Any:
    """The function with some parameters replaced by others: results that are written over inputs.

    `in_place` maps an input's position to that of the result which takes its memory. The input's parameter goes; reads of
    it become reads of the result's. One buffer under one name keeps `noalias` true.
    """
    if not in_place:
        return function
    params = list(function.params)
    replaced = {params[source]: params[result] for source, result in in_place.items()}

    def replace(variable: Any) -> Any:
        return next((new for old, new in replaced.items() if old.same_as(variable)), variable)

    body = tvm_ffi.structural_map(function.body, (type(params[0]), replace))
    kept = [p for i, p in enumerate(params) if i not in in_place]
    return tirx.PrimFunc(kept, body, function.ret_type, function.attrs)


def on_one_core(function: Any) -> Any:
    """The function with its parallel loops run by the thread that calls it."""

    def serial(node: Any) -> Any:
        if node.kind != tirx.ForKind.PARALLEL:
            return node
        return tirx.For(node.loop_var, node.min, node.extent, tirx.ForKind.SERIAL, node.body)

    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.For, serial)))


def module_of(functions: Mapping[str, Any]) -> Any:
    """One IRModule of functions, each called by its name here.

    All are marked as free of aliases: TVM takes that from a module's last function for all of them, and kernels beside an
    unmarked one (the driver) lose their unrolled loops, up to two thirds of their speed.
    """
    marks = {"tirx.noalias": True}
    return tvm.IRModule({name: f.with_attrs({**marks, "global_symbol": name}) for name, f in functions.items()})
