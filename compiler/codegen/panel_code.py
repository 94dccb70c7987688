"""Code for panels: the sums of one panel of pixels beside 32 output channels, in LLVM's own language.

A function gets the addresses of the sums [pixels, 32] (float32), of the panel's first pixel, of the next pixel, of the pixel in
the next row of the result, of the first pixel's place in the next kernel row and in the next tap, and of the weights (see
`ops.paired`: they lie in the order in which they are used). There are three ways to compute it: the tiles of a matrix unit
(amx-bf16), dot products of pairs (avx512bf16), and float32 arithmetic on what both halves of a pair are when widened.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dlc.compiler.panel import CHANNELS, DEPTH, Panel

Way = Literal["tiles", "dots", "widened"]

_PAIRS = DEPTH // 2
_CHUNK_BYTES = CHANNELS * DEPTH * 2
_HALF_BYTES = _CHUNK_BYTES // 2

_TILE_DECLARATIONS = """
declare void @llvm.x86.ldtilecfg(ptr)
declare void @llvm.x86.tilerelease()
declare void @llvm.x86.tilezero(i8)
declare void @llvm.x86.tileloadd64(i8, ptr, i64)
declare void @llvm.x86.tilestored64(i8, ptr, i64)
declare void @llvm.x86.tdpbf16ps(i8, i8, i8)
"""
_DOT_DECLARATIONS = "declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)"


@dataclass(frozen=True)
class Sums:
    """What one function computes: a panel over kernel rows, taps and chunks of factors; `adds`: to what the sums are already.

    `halves` of the 32 channels are computed, one where the others are missing.
    """

    panel: Panel
    rows: int
    taps: int
    chunks: int
    adds: bool = False
    halves: int = 2

    @property
    def symbol(self) -> str:
        """The function's name."""
        sizes = f"{self.panel.high}_{self.panel.wide}_{self.rows}_{self.taps}_{self.chunks}"
        return f"dlc_panel_{sizes}{'_more' if self.adds else ''}{'' if self.halves == 2 else '_half'}"


def definition(sums: Sums, way: Way, lanes: int, registers: int) -> str:
    """The function as an LLVM module's text, for a processor with `registers` vectors of `lanes` float32 numbers."""
    if way == "tiles":
        return _TILE_DECLARATIONS + _by_tiles(sums)
    return (_DOT_DECLARATIONS if way == "dots" else "") + _by_vectors(sums, way, lanes, registers)


@dataclass
class _Code:
    """Instructions of one function, block by block."""

    lines: list[str] = field(default_factory=list)
    count: int = 0
    block: str = "entry"

    def name(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def do(self, text: str) -> None:
        self.lines.append("  " + text)

    def let(self, text: str) -> str:
        made = self.name()
        self.do(f"{made} = {text}")
        return made

    def at(self, pointer: str, offset: int | str) -> str:
        return pointer if offset == 0 else self.let(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    def difference(self, pointer: str, other: str) -> str:
        a, b = self.let(f"ptrtoint ptr {pointer} to i64"), self.let(f"ptrtoint ptr {other} to i64")
        return self.let(f"sub i64 {a}, {b}")

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    def loop(
        self,
        turns: int,
        carried: Sequence[tuple[str, str]],
        body: Callable[[str, list[str]], list[str]],
    ) -> list[str]:
        """`turns` times `body(turn, values)`, which gives the values of the next turn; `carried` are types and first values."""
        if turns == 1:
            return body("0", [value for _, value in carried])
        self.count += 1
        label, before = f"loop{self.count}", self.block
        self.do(f"br label %{label}")
        place = len(self.lines)
        self.start(label)
        turn = self.name()
        values = [self.name() for _ in carried]
        after = body(turn, values)
        more, end = self.let(f"add i64 {turn}, 1"), self.block
        phis = [f"  {turn} = phi i64 [0, %{before}], [{more}, %{end}]"]
        for (type_, first), value, new in zip(carried, values, after, strict=True):
            phis.append(f"  {value} = phi {type_} [{first}, %{before}], [{new}, %{end}]")
        self.lines[place + 1 : place + 1] = phis
        done = self.let(f"icmp eq i64 {more}, {turns}")
        self.do(f"br i1 {done}, label %{label}end, label %{label}")
        self.start(f"{label}end")
        return after

    def function(self, symbol: str) -> str:
        names = ", ".join(
            f"ptr %{n}" for n in ("sums", "pixel", "next", "below", "row", "tap", "weights", "far", "end")
        )
        body = "\n".join(self.lines)
        return f"define linkonce_odr void @{symbol}({names}) alwaysinline nounwind {{\nentry:\n{body}\n  ret void\n}}\n"


def _over_factors(
    code: _Code,
    sums: Sums,
    pixel: str,
    weights: str,
    carried: Sequence[tuple[str, str]],
    body: Callable[[str, str, list[str]], list[str]],
) -> list[str]:
    """`body(pixel, weights, values)` for each chunk of factors, in the order of the weights."""
    row = code.difference("%row", "%pixel") if sums.rows > 1 else "0"
    tap = code.difference("%tap", "%pixel") if sums.taps > 1 else "0"

    def chunk(_: str, values: list[str]) -> list[str]:
        at, factors, *own = values
        after = body(at, factors, own)
        return [code.at(at, 2 * DEPTH), code.at(factors, _CHUNK_BYTES), *after]

    def each_tap(_: str, values: list[str]) -> list[str]:
        at, factors, *own = values
        _, factors_after, *after = code.loop(sums.chunks, [("ptr", at), ("ptr", factors), *_typed(carried, own)], chunk)
        return [code.at(at, tap), factors_after, *after]

    def each_row(_: str, values: list[str]) -> list[str]:
        at, factors, *own = values
        _, factors_after, *after = code.loop(
            sums.taps, [("ptr", at), ("ptr", factors), *_typed(carried, own)], each_tap
        )
        return [code.at(at, row), factors_after, *after]

    start = [("ptr", pixel), ("ptr", weights), *carried]
    return code.loop(sums.rows, start, each_row)[2:]


def _typed(carried: Sequence[tuple[str, str]], values: Sequence[str]) -> list[tuple[str, str]]:
    return [(type_, value) for (type_, _), value in zip(carried, values, strict=True)]


def _by_tiles(sums: Sums) -> str:
    """Up to six tiles of sums: both halves of the channels at once for up to three tiles of pixels, else one after the other.

    Tiles of pixels of two sizes need a register each; up to two tiles of pixels keep theirs for both halves.
    """
    code = _Code()
    tiles = sums.panel.all_tiles
    sizes = sorted(set(tiles), reverse=True)
    together = sums.halves == 2 and (len(tiles) <= 2 or (len(tiles) == 3 and len(sizes) == 1))
    halves = 2 if together else 1
    count = len(tiles) * halves  # registers 0, 1, … hold sums
    kept = len(tiles) <= 2
    pixels = [count + t for t in range(len(tiles))] if kept else [count + sizes.index(s) for s in tiles]
    first_weights = max(pixels) + 1
    rows = {t * halves + h: size for t, size in enumerate(tiles) for h in range(halves)}
    rows |= dict(zip(pixels, tiles, strict=True))
    rows |= {first_weights + h: _PAIRS for h in range(2 if kept else 1)}
    assert max(rows) < 8, f"{tiles} do not fit in eight tiles"
    _configure(code, rows)
    step = code.difference("%next", "%pixel") if sums.panel.pixels > 1 else "64"
    below = code.difference("%below", "%pixel") if sums.panel.high > 1 else "0"
    starts: list[str] = []
    line = "%pixel"
    for _ in range(sums.panel.high):
        done = 0
        for size in sums.panel.tiles:
            starts.append(code.at(line, code.let(f"mul i64 {step}, {done}")) if done else line)
            done += size
        line = code.at(line, below) if below != "0" else line
    offsets = [code.difference(s, "%pixel") if s != "%pixel" else "0" for s in starts]

    def load(register: int, pointer: str, stride: str) -> None:
        code.do(f"call void @llvm.x86.tileloadd64(i8 {register}, ptr {pointer}, i64 {stride})")

    def multiply(total: int, pixel: int, weights: int) -> None:
        code.do(f"call void @llvm.x86.tdpbf16ps(i8 {total}, i8 {pixel}, i8 {weights})")

    for part in range(1 if together else sums.halves):

        def chunk(at: str, weights: str, _: list[str], part: int = part) -> list[str]:
            for h in range(halves):
                own = first_weights + (h if kept else 0)
                load(own, code.at(weights, (h + part) * _HALF_BYTES), "64")
                for t, offset in enumerate(offsets):
                    if not (kept and h):
                        load(pixels[t], code.at(at, 0 if offset == "0" else offset), step)
                    multiply(t * halves + h, pixels[t], own)
            return []

        places: dict[int, str] = {}
        done = 0
        for t, size in enumerate(tiles):
            for h in range(halves):
                places[t * halves + h] = code.at("%sums", done * CHANNELS * 4 + (h + part) * CHANNELS * 2)
            done += size
        for register, place in places.items():
            if sums.adds:
                load(register, place, str(CHANNELS * 4))
            else:
                code.do(f"call void @llvm.x86.tilezero(i8 {register})")
        _over_factors(code, sums, "%pixel", "%weights", [], chunk)
        for register, place in places.items():
            code.do(f"call void @llvm.x86.tilestored64(i8 {register}, ptr {place}, i64 {CHANNELS * 4})")
    code.do("call void @llvm.x86.tilerelease()")
    return code.function(sums.symbol)


def _configure(code: _Code, rows: dict[int, int]) -> None:
    """Tells the matrix unit the rows of each tile; all have 64 bytes a row."""
    table = bytearray(64)
    table[0] = 1
    for register, count in rows.items():
        struct.pack_into("<H", table, 16 + 2 * register, 64)
        table[48 + register] = count
    place = code.let("alloca [8 x i64], align 64")
    for i, word in enumerate(struct.unpack("<8Q", bytes(table))):
        code.do(f"store i64 {word}, ptr {code.at(place, 8 * i)}")
    code.do(f"call void @llvm.x86.ldtilecfg(ptr {place})")


def _by_vectors(sums: Sums, way: Way, lanes: int, registers: int) -> str:
    """Some pixels of a row beside some channels in registers; the last pixels of a row may be computed twice."""
    code = _Code()
    width = 16 if way == "dots" else lanes
    channels = CHANNELS if sums.halves == 2 and (registers > 16 or width > 8) else CHANNELS // 2
    vectors = channels // width
    most = max(1, (registers - vectors - (3 if way == "widened" else 1)) // vectors)
    count = -(-sums.panel.wide // most)
    own = -(-sums.panel.wide // count)
    real = f"<{width} x float>"
    step = code.difference("%next", "%pixel") if sums.panel.wide > 1 else "0"
    below = code.difference("%below", "%pixel") if sums.panel.high > 1 else "0"

    def some_pixels(turn: str, values: list[str]) -> list[str]:
        line, totals = values
        if count == 1:
            at, place = line, totals
        else:
            reached = code.let(f"mul i64 {turn}, {own}")
            beyond = code.let(f"icmp sgt i64 {reached}, {sums.panel.wide - own}")
            start = code.let(f"select i1 {beyond}, i64 {sums.panel.wide - own}, i64 {reached}")
            at = code.at(line, code.let(f"mul i64 {start}, {step}"))
            place = code.at(totals, code.let(f"mul i64 {start}, {CHANNELS * 4}"))

        def some_channels(turn: str, _: list[str]) -> list[str]:
            first = code.let(f"mul i64 {turn}, {channels}")
            behind = code.let(f"mul i64 {first}, {_HALF_BYTES // 16}")
            weights = code.at("%weights", behind)
            store = code.at(place, code.let(f"mul i64 {first}, 4"))
            places = [code.at(store, p * CHANNELS * 4 + v * width * 4) for p in range(own) for v in range(vectors)]
            start = [code.let(f"load {real}, ptr {p}, align 4") if sums.adds else "zeroinitializer" for p in places]
            results = _over_factors(
                code,
                sums,
                at,
                weights,
                [(real, s) for s in start],
                lambda a, w, v: _chunk(code, way, width, vectors, step, a, w, v),
            )
            for result, target in zip(results, places, strict=True):
                code.do(f"store {real} {result}, ptr {target}, align 4")
            return []

        code.loop(sums.halves * (CHANNELS // 2) // channels, [], some_channels)
        return values

    def line(_: str, values: list[str]) -> list[str]:
        pixel, totals = values
        code.loop(count, [("ptr", pixel), ("ptr", totals)], some_pixels)
        return [code.at(pixel, below), code.at(totals, sums.panel.wide * CHANNELS * 4)]

    code.loop(sums.panel.high, [("ptr", "%pixel"), ("ptr", "%sums")], line)
    return code.function(sums.symbol)


def _chunk(
    code: _Code, way: Way, width: int, vectors: int, step: str, pixel: str, weights: str, totals: list[str]
) -> list[str]:
    """The sums with one chunk of factors added, pair by pair."""
    real, whole, short = f"<{width} x float>", f"<{width} x i32>", f"<{2 * width} x bfloat>"

    def spread(value: str) -> str:
        one = code.let(f"insertelement {whole} poison, i32 {value}, i32 0")
        return code.let(f"shufflevector {whole} {one}, {whole} poison, {whole} zeroinitializer")

    def halves(value: str) -> tuple[str, str]:
        low = code.let(f"shl {whole} {value}, splat (i32 16)")
        high = code.let(f"and {whole} {value}, splat (i32 -65536)")
        return code.let(f"bitcast {whole} {low} to {real}"), code.let(f"bitcast {whole} {high} to {real}")

    def pair(_: str, values: list[str]) -> list[str]:
        at, factors, *sums = values
        count = len(sums) // vectors
        loaded = []
        for v in range(vectors):
            half, inside = divmod(v * width, CHANNELS // 2)
            place = code.at(factors, half * _HALF_BYTES + inside * 4)
            loaded.append(code.let(f"load {whole}, ptr {place}, align 4"))
        wide = [halves(x) for x in loaded] if way == "widened" else []
        own = at
        for p in range(count):
            both = spread(code.let(f"load i32, ptr {own}, align 2"))
            own = code.at(own, step) if p + 1 < count else own
            if way == "dots":
                a = code.let(f"bitcast {whole} {both} to {short}")
                for v, x in enumerate(loaded):
                    b = code.let(f"bitcast {whole} {x} to {short}")
                    sums[p * vectors + v] = code.let(
                        f"call {real} @llvm.x86.avx512bf16.dpbf16ps.512({real} {sums[p * vectors + v]}, {short} {a}, {short} {b})"
                    )
                continue
            for a, side in zip(halves(both), (0, 1), strict=True):
                for v in range(vectors):
                    product = code.let(f"fmul contract {real} {a}, {wide[v][side]}")
                    sums[p * vectors + v] = code.let(f"fadd contract {real} {sums[p * vectors + v]}, {product}")
        return [code.at(at, 4), code.at(factors, CHANNELS * 2), *sums]

    carried = [("ptr", pixel), ("ptr", weights), *((real, t) for t in totals)]
    return code.loop(_PAIRS, carried, pair)[2:]
