"""Panels in kernels: the loops over the products of one panel become a call of a function in LLVM's own language.

A rule marks the outermost loop of a panel with `mark`; `insert_panels` exchanges it. The block that stands there afterwards is
opaque: it says which parts of which tensors it reads and writes, and hands over addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tvm_ffi
from tvm import sym, tirx
from tvm.ir import Range
from tvm.s_tir import SBlock, SBlockRealize, Schedule

from dlc.compiler.codegen.intrinsics import with_import
from dlc.compiler.codegen.panel_code import Sums, Way, definition
from dlc.compiler.codegen.schedules.cpu.loops import loads
from dlc.compiler.codegen.target import CpuTarget
from dlc.compiler.panel import CHANNELS, DEPTH, panel_of

_MARK = "dlc.panel"


def mark(schedule: Schedule, loop: Any, panel: tuple[int, int], halves: int = 2) -> None:
    """Marks the outermost loop of the products of a panel of (rows, columns), of which one half of the channels may be missing."""
    schedule.annotate(loop, _MARK, (halves * 4096 + panel[0]) * 4096 + panel[1])


def way_of(target: CpuTarget) -> Way:
    """The fastest way to compute a panel that the processor has instructions for."""
    if "amx-bf16" in target.features:
        return "tiles"
    return "dots" if "avx512bf16" in target.features else "widened"


def insert_panels(function: Any, target: CpuTarget) -> Any:
    """The function with its marked loops turned into calls."""
    symbols: dict[str, Sums] = {}

    def rewrite(loop: Any) -> Any:
        if _MARK not in loop.annotations:
            return loop
        made = _Call(loop, function.params)
        symbols[made.sums.symbol] = made.sums
        return made.block()

    body = tvm_ffi.structural_map(function.body, (tirx.For, rewrite))
    if not symbols:
        return function
    function = function.with_body(body)
    for sums in symbols.values():
        function = with_import(function, definition(sums, way_of(target), target.lanes, target.registers))
    return function


class _Call:
    """The call that stands for a marked loop."""

    def __init__(self, loop: Any, given: Sequence[Any]) -> None:
        self.given = given
        outer, wide = divmod(int(loop.annotations[_MARK]), 4096)
        halves, high = divmod(outer, 4096)
        inner: list[Any] = []
        tvm_ffi.structural_walk(loop, (tirx.For, inner.append))
        realizes: list[Any] = []
        tvm_ffi.structural_walk(loop.body, (SBlockRealize, realizes.append))
        (realize,) = realizes
        self.block_name = realize.block.name_hint
        start = {own.loop_var: _ZERO for own in inner}
        self.axes = [axis.var for axis in realize.block.iter_vars]
        self.base = [substitute(value, start) for value in realize.iter_values]
        self.store = realize.block.body
        reads = loads(self.store.value)
        self.weight = next(r for r in reads if len(r.source.ty.shape) == 5)
        self.pixel = next(r for r in reads if not r.source.same_as(self.weight.source) and not self._is_sum(r))
        _, _, taps, chunks, _ = (int(e) for e in self.weight.source.ty.shape)
        rows = self._turns(realize.iter_values[4], inner)
        adds = realize.block.init is None  # zeros have been put there
        self.sums = Sums(panel_of(high, wide), rows, taps, chunks, adds, halves)

    @staticmethod
    def _turns(value: Any, loops: Sequence[Any]) -> int:
        """How many values an axis has in the marked loops."""
        ends = [{own.loop_var: own.extent - 1 if last else _ZERO for own in loops} for last in (True, False)]
        far, near = (substitute(value, end) for end in ends)
        return int(sym.Analyzer().simplify(far - near)) + 1

    def _is_sum(self, load: Any) -> bool:
        return bool(load.source.same_as(self.store.buffer))

    def _at(self, indices: Sequence[Any], **further: int) -> list[Any]:
        """Indices at the panel's start, or some steps further along the axes n, y, x, o, i, j, k."""
        names = ("n", "y", "x", "o", "i", "j", "k")
        values = {
            axis: base + further.get(name, 0) for axis, base, name in zip(self.axes, self.base, names, strict=True)
        }
        simplify = sym.Analyzer().simplify
        return [simplify(substitute(index, values)) for index in indices]

    def block(self) -> Any:
        """An opaque block with the call."""
        sums, panel = self.sums, self.sums.panel
        pixel, weight = self.pixel, self.weight
        last = {
            "y": panel.high - 1, "x": panel.wide - 1, "i": sums.rows - 1, "j": sums.taps - 1, "k": sums.chunks * DEPTH - 1,
        }  # fmt: skip

        def image(**further: int) -> Any:
            return address(pixel.source, self._at(pixel.indices, **further))

        results = self._at(self.store.indices)
        end = self._at(self.store.indices, y=panel.high - 1, x=panel.wide - 1, o=CHANNELS - 1)
        far = self._at(pixel.indices, **last)
        arguments = [
            address(self.store.buffer, results),
            image(),
            image(x=1 if panel.wide > 1 else 0),
            image(y=1 if panel.high > 1 else 0),
            image(i=1 if sums.rows > 1 else 0),
            image(j=1 if sums.taps > 1 else 0),
            address(weight.source, self._at(weight.indices)),
            address(pixel.source, [*far[:-1], pixel.source.ty.shape[-1] - 1]),
            address(self.store.buffer, end),
        ]
        # the last two are not used: TVM keeps of a tensor what lies between the elements that are named
        call = tirx.Evaluate(tirx.call_extern("void", sums.symbol, *arguments))
        pixels = self._region(pixel.source, self._at(pixel.indices)[:-1], far[:-1])
        reads, writes = [pixels, whole(weight.source)], [self._region(self.store.buffer, results, end)]
        return SBlockRealize([], True, SBlock([], reads, writes, f"{self.block_name}_panel", call))

    def _region(self, tensor: Any, first: Sequence[Any], last: Sequence[Any]) -> Any:
        """What lies between two elements, along all of the axes that they do not name; of a tensor of the caller's, all."""
        if any(tensor.same_as(parameter) for parameter in self.given):
            return whole(tensor)
        simplify = sym.Analyzer().simplify
        pairs = zip(first, last, strict=True)
        ranges = [Range.from_min_extent(low, simplify(high - low + 1)) for low, high in pairs]
        ranges += [Range.from_min_extent(_ZERO, e) for e in tensor.ty.shape[len(ranges) :]]
        return tirx.BufferRegion(tensor, ranges)


_ZERO = tirx.const(0, "int64")


def address(tensor: Any, indices: Sequence[Any]) -> Any:
    """The address of an element."""
    return tirx.address_of(tirx.BufferLoad(tensor, list(indices)))


def whole(tensor: Any) -> Any:
    """All of a tensor."""
    return tirx.BufferRegion(tensor, [Range.from_min_extent(_ZERO, e) for e in tensor.ty.shape])


def substitute(expression: Any, values: Mapping[Any, Any]) -> Any:
    """The expression with variables replaced."""

    def replace(variable: Any) -> Any:
        return next((new for old, new in values.items() if old.same_as(variable)), variable)

    return tvm_ffi.structural_map(expression, (tirx.Var, replace))
