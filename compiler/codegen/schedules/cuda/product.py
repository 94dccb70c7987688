"""The rule for convolutions, linear layers and their gradients: products of matrices, with all that follows fused behind.

The product itself is CUDA C++ (`product.cuh`), called by a kernel in TensorIR whose threads then read the sums out of shared
memory, apply the fused ops and write the result, 16 bytes at a time. Where few tiles would leave the GPU idle, K is shared
out: blocks write their sums to memory, and a second kernel adds them, in order, and applies the fused ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Range, TensorLoad
from tvm.s_tir import SBlock, SBlockRealize

from dlc.compiler.codegen.emit import Call
from dlc.compiler.codegen.function import lower
from dlc.compiler.codegen.parts import place
from dlc.compiler.codegen.schedules.cuda.problem import Kind, Problem, Units, factors, problem_of
from dlc.compiler.codegen.schedules.cuda.source import product_function
from dlc.compiler.codegen.schedules.cuda.tilings import Tiling, choose
from dlc.compiler.codegen.target import CudaTarget
from dlc.compiler.codegen.unchecked import UncheckedSchedule
from dlc.compiler.ir import N, Value

NAMES = {Units.SCALAR: "Product", Units.TF32: "ProductTf32"}
"""The rule's name by what multiplies; 16-bit types have that of tensor cores."""

_ADDING_THREADS = 256


@dataclass(frozen=True)
class ScheduledProduct:
    """A finished function, the rule's name, and whether one sample asks for another cut than many."""

    function: Any
    rule: str
    specializes_batch_one: bool


def schedule_product(call: Call, batch: int | None, target: CudaTarget) -> ScheduledProduct | None:
    """The function of a kernel whose anchor is a product of matrices; None where it is none, or no good one."""
    anchor = call.kernel.anchor
    if anchor is None or not target.multiplies_by_tensor_cores or any(o in call.kernel.body for o in anchor.operands):
        return None
    positions = dict(enumerate((*call.kernel.inputs, *call.kernel.results)))
    problem = problem_of(anchor, {positions[i]: part for i, part in call.parts.items()})
    if problem is None:
        return None
    tiling = choose(problem, batch, target)
    follow = _Epilogue.of(place(lower(call.kernel, batch, target, apart=anchor), call.parts))
    if follow is None:
        return None
    samples = anchor.operands[0].type.shape[0]
    extent = batch if batch is not None and samples is N else samples
    symbolic = extent is N
    count: Any = _symbol(follow.function, call, factors(anchor)) if symbolic else extent
    tensors = [follow.function.params[call.kernel.inputs.index(v)] for v in factors(anchor)]
    builder = _Builder(problem, tiling, follow, count, tensors, _vector(problem, call))
    is_split = symbolic and problem.kind is not Kind.BY_WEIGHT and choose(problem, 1, target) != tiling
    return ScheduledProduct(builder.function(), NAMES.get(problem.units, "ProductHalf"), is_split)


def _symbol(function: Any, call: Call, operands: Sequence[Value]) -> Any:
    """The variable of the batch, out of the first operand that has it."""
    position = next(call.kernel.inputs.index(v) for v in operands if N in v.type.shape)
    return function.params[position].shape[0]


def _vector(problem: Problem, call: Call) -> int:
    """Neighbouring results that one thread computes at once: 16 bytes of sums, where every tensor's lines consist of such."""
    if problem.kind is Kind.BY_WEIGHT and problem.canonical and problem.taps > 1:
        return 1
    lengths = [problem.inputs if problem.kind is not Kind.FORWARD else problem.outputs]
    for part in call.parts.values():
        last = part.axis == len(part.shape) - 1
        lengths += [part.start if last else 0, int(part.shape[-1])]  # type: ignore[arg-type]  # not the batch
    return math.gcd(4, *lengths)


@dataclass(frozen=True)
class _Epilogue:
    """What follows the sums: blocks that write results, element by element, reading `sums` and other tensors."""

    function: Any
    sums: Any
    blocks: tuple[Any, ...]

    @staticmethod
    def of(function: Any) -> _Epilogue | None:
        """Inlines all that is no result; None where that is not possible."""
        schedule = UncheckedSchedule(function)
        params = list(function.params)
        for handle in schedule.get_child_blocks(schedule.get_sblock("root")):
            written = schedule.get(handle).writes[0].source
            if not any(written.same_as(p) for p in params):
                schedule.compute_inline(handle)
        function = schedule.mod["main"]
        blocks: list[Any] = []
        tvm_ffi.structural_walk(function.body, (SBlock, blocks.append))
        blocks = [b for b in blocks if b.iter_vars]
        if any(int(axis.iter_type) != 0 for b in blocks for axis in b.iter_vars):
            return None
        return _Epilogue(function, function.params[-1], tuple(blocks))

    def statements(self, indices: Sequence[Any], total: Any) -> list[Any]:
        """The blocks' statements for one element of the result, whose sum is `total`."""

        def load(node: Any) -> Any:
            return total if node.source.same_as(self.sums) else node

        found = []
        for block in self.blocks:
            values = {axis.var: index for axis, index in zip(block.iter_vars, indices, strict=True)}

            def replace(variable: Any, values: Mapping[Any, Any] = values) -> Any:
                return next((new for old, new in values.items() if old.same_as(variable)), variable)

            axis = next(iter(values))
            body = tvm_ffi.structural_map(block.body, [(TensorLoad, load)])
            found.append(tvm_ffi.structural_map(body, [(type(axis), replace)]))
        return found


@dataclass(frozen=True)
class _Builder:
    """Makes the function. `batch` is a number or a variable; `vector` results are computed at once."""

    problem: Problem
    tiling: Tiling
    epilogue: _Epilogue
    batch: Any
    factors: Sequence[Any]
    vector: int

    def function(self) -> Any:
        """The kernels, one after the other, as a PrimFunc."""
        whole = self.epilogue.function
        tile = tirx.decl_buffer([_int64(self._shared)], "float32", f"sums{self.vector}", scope="shared.dyn")
        if self.tiling.splits == 1:
            body, buffers = self._multiply(tile, self._results), [tile]
        else:
            problem = self.problem
            shape = (self.tiling.splits, problem.pieces, problem.m(self.batch), problem.n)
            partial = tirx.decl_buffer([_int64(e) for e in shape], "float32", "partial")
            total = tirx.decl_buffer([_int64(self.vector)], "float32", "total", scope="local")

            def keep(place: _Place, sums: Any) -> list[Any]:
                at = (place.split, place.piece, place.m, place.n + place.lane)
                return [tirx.BufferStore(partial, sums, [_int64(i) for i in at])]

            body = tirx.SeqStmt([self._multiply(tile, keep), self._add(partial, total)])
            buffers = [tile, partial, total]
        block = SBlock([], [], [], "root", body, alloc_buffers=buffers)
        params = list(whole.params)[:-1]
        return tirx.PrimFunc(params, SBlockRealize([], True, block), whole.ret_type, whole.attrs)

    @property
    def _shared(self) -> int:
        return self.tiling.shared(self.problem) // 4

    @property
    def _samples(self) -> Any:
        return self.batch if isinstance(self.batch, int) else self.batch.astype("int32")

    @property
    def _m(self) -> Any:
        return self.problem.m(self._samples)

    def _multiply(self, tile: Any, write: Callable[[_Place, Any], list[Any]]) -> Any:
        """The kernel that multiplies and has every sum written."""
        problem, tiling = self.problem, self.tiling
        name, source = product_function(problem, tiling)
        across = -(-problem.n // tiling.columns)
        tiles = (self._m + (tiling.rows - 1)) // tiling.rows * across
        block, piece, split, thread = (tirx.Var(n, "int32") for n in ("block", "piece", "split", "thread"))
        own_piece = piece if problem.pieces > 1 else _int32(0)
        own_split = split if tiling.splits > 1 else _int32(0)
        a, b = self.factors
        arguments = (tile.data, a.data, b.data, _int32(self._samples), block, own_piece, own_split)
        multiplied = tirx.Evaluate(tirx.call_intrin("void", "tirx.cuda.func_call", name, *arguments, source))
        vectors = tiling.columns // self.vector
        down = tiling.threads // vectors
        turn, lane = tirx.Var("turn", "int32"), tirx.Var("lane", "int32")
        row, column = thread // vectors + turn * down, thread % vectors * self.vector
        place = _Place(
            own_split, own_piece, block // across * tiling.rows + row, block % across * tiling.columns + column, lane
        )
        total = tirx.BufferLoad(tile, [_int64(row * (tiling.columns + 8) + column + lane)])
        body = self._vectorized(lane, write(place, total))
        inside = [place.m < self._m] if isinstance(self._m, int) is False or self._m % tiling.rows else []
        if problem.n % tiling.columns:
            inside.append(place.n < problem.n)
        body = _guarded(inside, body)
        body = tirx.For(turn, _int32(0), _int32(tiling.rows // down), tirx.ForKind.SERIAL, body)
        body = _bound(thread, "threadIdx.x", tiling.threads, tirx.SeqStmt([multiplied, body]))
        if tiling.splits > 1:
            body = _bound(split, "blockIdx.z", tiling.splits, body)
        if problem.pieces > 1:
            body = _bound(piece, "blockIdx.y", problem.pieces, body)
        return _bound(block, "blockIdx.x", tiles, body)

    def _add(self, partial: Any, total: Any) -> Any:
        """The kernel that adds the parts of sums, the first one first, and writes results."""
        problem, vectors = self.problem, self.problem.n // self.vector
        block, piece, thread = (tirx.Var(n, "int32") for n in ("block", "piece", "thread"))
        lane, each = tirx.Var("lane", "int32"), tirx.Var("each", "int32")
        flat = block * _ADDING_THREADS + thread
        own = piece if problem.pieces > 1 else _int32(0)
        place = _Place(_int32(0), own, flat // vectors, flat % vectors * self.vector, lane)

        def part(split: Any, lane: Any) -> Any:
            return tirx.BufferLoad(partial, [_int64(i) for i in (split, own, place.m, place.n + lane)])

        first, more = tirx.Var("lane", "int32"), tirx.Var("lane", "int32")
        start = self._vectorized(first, [tirx.BufferStore(total, part(0, first), [_int64(first)])])
        summed = tirx.BufferLoad(total, [_int64(more)]) + part(each + 1, more)
        add = self._vectorized(more, [tirx.BufferStore(total, summed, [_int64(more)])])
        adding = tirx.For(each, _int32(0), _int32(self.tiling.splits - 1), tirx.ForKind.UNROLLED, add)
        results = self._vectorized(lane, self._results(place, tirx.BufferLoad(total, [_int64(lane)])))
        body = _guarded([flat < self._m * vectors], tirx.SeqStmt([start, adding, results]))
        body = _bound(thread, "threadIdx.x", _ADDING_THREADS, body)
        if problem.pieces > 1:
            body = _bound(piece, "blockIdx.y", problem.pieces, body)
        return _bound(block, "blockIdx.x", (self._m * vectors + (_ADDING_THREADS - 1)) // _ADDING_THREADS, body)

    def _vectorized(self, lane: Any, statements: list[Any]) -> Any:
        """The statements for all neighbours that one thread computes."""
        body = statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
        if self.vector == 1:
            return tvm_ffi.structural_map(body, (type(lane), lambda v: _int32(0) if v.same_as(lane) else v))
        return tirx.For(lane, _int32(0), _int32(self.vector), tirx.ForKind.VECTORIZED, body)

    def _results(self, place: _Place, sums: Any) -> list[Any]:
        """The fused ops for one sum."""
        dtype = str(self.epilogue.sums.dtype)
        total = sums if dtype == "float32" else sums.astype(dtype)
        indices, inside = self._indices(place)
        statements = self.epilogue.statements([_int64(i) for i in indices], total)
        return [_guarded(inside, s) for s in statements]

    def _indices(self, place: _Place) -> tuple[list[Any], list[Any]]:
        """Where in the result the sum at (m, n) belongs, and under which conditions it does at all."""
        problem = self.problem
        group = place.piece % problem.groups if problem.groups > 1 else 0
        if problem.kind is Kind.BY_WEIGHT:
            tap, c = _divided(place.n, problem.inputs)
            i, j = _divided(tap, problem.kernel[1])
            o = group * problem.outputs + place.m
            if problem.rank == 2:
                return [o, c + place.lane], []
            if problem.rank == 3:
                return [o, c + place.lane, 0], []
            return ([o, c + place.lane, i, j] if problem.rank == 4 else [o, i, j, c + place.lane, 0]), []
        sample, rest = _divided(place.m, problem.positions)
        channel = group * (problem.outputs if problem.kind is Kind.FORWARD else problem.inputs) + place.n + place.lane
        if problem.rank == 2:
            return [sample, channel], []
        q = _divided(rest, problem.grid[1])
        if problem.phases == (1, 1):
            return [sample, *q, channel], []
        phase = _divided(place.piece // problem.groups, problem.phases[1])
        at = [
            own * count + own_phase + offset
            for own, count, own_phase, offset in zip(q, problem.phases, phase, problem.offset, strict=True)
        ]
        inside = [c for x, size in zip(at, problem.result, strict=True) for c in (x >= 0, x < size)]
        return [sample, *at, channel], inside


@dataclass(frozen=True)
class _Place:
    """Where a sum stands: which part of K, which piece, row m, columns n + lane."""

    split: Any
    piece: Any
    m: Any
    n: Any
    lane: Any


def _divided(number: Any, by: int) -> tuple[Any, Any]:
    return (number, _int32(0)) if by == 1 else (number // by, number % by)


def _guarded(conditions: list[Any], body: Any) -> Any:
    return tirx.IfThenElse(tirx.all(*conditions), body, None) if conditions else body


def _bound(variable: Any, tag: str, extent: Any, body: Any) -> Any:
    """A loop over blocks or threads."""
    axis = tirx.IterVar(Range(0, _int32(extent)), tirx.Var("", "int32"), 1, tag)
    return tirx.For(variable, _int32(0), _int32(extent), tirx.ForKind.THREAD_BINDING, body, axis)


def _int32(value: Any) -> Any:
    return tirx.const(value, "int32") if isinstance(value, int) else value


def _int64(value: Any) -> Any:
    return tirx.const(value, "int64") if isinstance(value, int) else value.astype("int64")
