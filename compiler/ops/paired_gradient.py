"""The gradient of a convolution by its weight as a product of pairs: a product over pixels, along which pairs run.

The image is turned into planes of its channels, and the gradient by the result is paired as a weight is, with pixels for factors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from dlc.compiler.ir import DType, Fusion, Op, Sample, ShapeError, TensorType
from dlc.compiler.ops.base import widened
from dlc.compiler.ops.contraction import round_up
from dlc.compiler.ops.convolution import Conv2d, Conv2dWeightGradient, Pair
from dlc.compiler.ops.indexing import show, static
from dlc.compiler.ops.lowering import Lowering, Tensor
from dlc.compiler.ops.paired import check_paired, factor, paired_shape, unpaired
from dlc.compiler.ops.pairs import HALF, cases, paired, places
from dlc.compiler.panel import CHANNELS, DEPTH, Panel, choose, has_registers, panel_of
from dlc.runtime.deferred import np

TASKS = 8
"""Tasks that a weight's gradient is cut into, if there are images enough."""


@dataclass(frozen=True)
class Grid:
    """The pixels of the result of a convolution of an image [N, height, width, inputs] as factors of its weight's gradient.

    They lie in rows of `pitch`: the result's columns and as many zeros as kernel columns reach further. The image's pixels that
    meet them at one place of the kernel lie in the same way, from another start, in one of the planes of each channel: for each
    residue of rows and columns by the stride there is one.
    """

    of: Conv2d
    height: int
    width: int
    inputs: int

    @cached_property
    def size(self) -> Pair:
        """Rows and columns of the result."""
        return self.of.output_size(self.height, self.width)

    @property
    def residues(self) -> Pair:
        """Residues of rows and of columns that the kernel's places have, up to the largest."""
        of = self.of
        rows, columns = (
            max(i * d % s for i in range(k)) + 1 for k, d, s in zip(of.kernel, of.dilation, of.stride, strict=True)
        )
        return rows, columns

    @property
    def pitch(self) -> int:
        """Places of one row."""
        return self.size[1] + (self.of.kernel[1] - 1) * self.of.dilation[1] // self.of.stride[1]

    @property
    def chunks(self) -> int:
        """Chunks of factors of one image."""
        return -(-((self.size[0] - 1) * self.pitch + self.size[1]) // DEPTH)

    @property
    def length(self) -> int:
        """Places of a plane: as many as the last place of the kernel meets."""
        of = self.of
        rows, columns = ((k - 1) * d // s for k, d, s in zip(of.kernel, of.dilation, of.stride, strict=True))
        return -(-(self.chunks * DEPTH + rows * self.pitch + columns) // DEPTH) * DEPTH

    @property
    def panel(self) -> Panel:
        """Channels of the image beside 32 of the result; where these are few, those of a kernel row's places above each other."""
        wide = choose(1, self.inputs // self.of.groups).wide
        across = self.of.kernel[1]
        if self.of.stride[1] == 1 and across > 1 and has_registers(above := panel_of(across, wide)):
            return above
        return panel_of(1, wide)

    def parts(self, images: int) -> int:
        """Parts of the images that have sums of their own, so that there are tasks enough. Not by the number of cores: sums
        would be others on another machine."""
        tasks = -(-self.of.channels // CHANNELS) * -(-self.inputs // self.of.groups // self.panel.wide)
        return next((d for d in range(1, images + 1) if images % d == 0 and d * tasks >= TASKS), images)

    @property
    def channels(self) -> int:
        """Channels that have planes: the last panel may reach beyond the image's, and many are turned 16 at a time."""
        own = self.inputs // self.of.groups
        count = self.inputs - own + -(-own // self.panel.wide) * self.panel.wide
        return count if count < HALF else -(-count // HALF) * HALF

    def planes(self, images: int) -> tuple[int, ...]:
        """The shape of `images` images as planes."""
        rows, columns = self.residues
        return (images, rows * columns, self.channels, self.length)

    def pairs(self, images: int) -> tuple[int, ...]:
        """The shape of as many results' gradients, paired, of bfloat16."""
        blocks, _, _, _, chunk = paired_shape(self.of.channels, (1, 1), 1)
        return (blocks, images, 1, self.chunks, chunk)


@dataclass(frozen=True)
class Planes(Op):
    """An image [N, H, W, I] as planes of its channels: [N, residues, channels, places], zero beside it."""

    fusion: ClassVar[Fusion] = Fusion.CONTRACTION
    grid: Grid

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        expected = (x.shape[0], self.grid.height, self.grid.width, self.grid.inputs)
        if x.shape != expected:
            raise ShapeError(f"the image is {show(x.shape)}; expected {show(expected)}")
        return x.with_shape(*self.grid.planes(static(x.shape[:1])[0]))

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        grid, of = self.grid, self.grid.of
        images, planes, channels, length = grid.planes(x.shape[0])
        (down, across), (top, left) = of.stride, of.padding[:2]
        high = -(-length // grid.pitch)
        image = np.zeros((images, (high + 1) * down, grid.pitch * across + left + x.shape[2], channels), x.dtype)
        seen = x[:, : image.shape[1] - top]
        image[:, top : top + seen.shape[1], left : left + x.shape[2], : x.shape[3]] = seen
        result = np.zeros((images, planes, channels, high * grid.pitch), x.dtype)
        for plane in range(planes):
            row, column = divmod(plane, grid.residues[1])
            own = image[:, row::down, column::across][:, :high, : grid.pitch]
            result[:, plane] = own.transpose(0, 3, 1, 2).reshape(images, channels, -1)
        return np.ascontiguousarray(result[..., :length])

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (x,) = operands
        shape = self.grid.planes(int(x.shape[0]))
        if shape[2] < HALF:
            few = {"dlc.anchor": "planes", "dlc.turned": 0}
            return t.copied(x, lambda bits: t.compute(shape, lambda *i: self._pixel(t, bits, *i), "planes", few))
        images, planes, channels, length = shape

        def pair(n: Any, plane: Any, block: Any, place: Any, lane: Any) -> Any:
            return t.pair(*(self._pixel(t, x, n, plane, block * HALF + lane, 2 * place + half) for half in (0, 1)))

        pairs = t.compute((images, planes, channels // HALF, length // 2, HALF), pair, "pairs", {"dlc.part": "pairs"})
        return t.compute(
            shape,
            lambda n, plane, c, place: t.maths.cast(
                t.half_of_pair(pairs(n, plane, c // HALF, place // 2, c % HALF), place % 2), DType.BFLOAT16
            ),
            "planes",
            {"dlc.anchor": "planes", "dlc.turned": 1},
        )

    def _pixel(self, t: Lowering, x: Tensor, n: Any, plane: Any, c: Any, place: Any) -> Any:
        grid, of = self.grid, self.grid.of
        (down, across), (top, left) = of.stride, of.padding[:2]
        row = place // grid.pitch * down + plane // grid.residues[1] - top
        column = place % grid.pitch * across + plane % grid.residues[1] - left
        inside = [row < grid.height]
        inside += [row >= 0] if top else []
        inside += [column >= 0] if left else []
        if (grid.pitch - 1) * across + grid.residues[1] - 1 - left >= grid.width:
            inside.append(column < grid.width)
        if grid.channels > grid.inputs:
            inside.append(c < grid.inputs)
        return t.guarded(t.all_of(*inside), x(n, row, column, c), 0)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for of, (height, width, inputs) in cases():
            x = TensorType((2, height, width, inputs), DType.BFLOAT16)
            yield Sample(cls(Grid(of, height, width, inputs)), (x,), differentiable=False)


@dataclass(frozen=True)
class PairPixels(Op):
    """The gradient by the result, [N, h, w, O], as a paired weight whose factors are pixels: [ceil(O/32), N, 1, chunks, 512]."""

    fusion: ClassVar[Fusion] = Fusion.CONTRACTION
    grid: Grid

    def infer(self, *operands: TensorType) -> TensorType:
        (upstream,) = operands
        expected = (upstream.shape[0], *self.grid.size, self.grid.of.channels)
        if upstream.shape != expected:
            raise ShapeError(f"the gradient is {show(upstream.shape)}; expected {show(expected)}")
        *outer, chunk = self.grid.pairs(static(upstream.shape[:1])[0])
        return TensorType((*outer, chunk // 2), DType.UINT32)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        upstream = np.asarray(operands[0], np.float32)
        images, rows, columns, channels = upstream.shape
        wide = np.zeros((images, rows, self.grid.pitch, channels), np.float32)
        wide[:, :, :columns] = upstream
        places = wide.reshape(images, -1, channels)[:, : self.grid.chunks * DEPTH]
        return paired(np.ascontiguousarray(places.transpose(2, 0, 1))[:, :, None])

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (upstream,) = operands
        grid = self.grid
        (rows, columns), channels = grid.size, grid.of.channels
        *outer, chunk = grid.pairs(int(upstream.shape[0]))

        def read(n: Any, first: Any, lane: Any, place: Any) -> Any:
            row, column = place // grid.pitch, place % grid.pitch
            inside = [row < rows] if grid.chunks * DEPTH > rows * grid.pitch else []
            inside += [column < columns] if grid.pitch > columns else []
            if channels % HALF:
                inside.append(first + lane < channels)
            elif channels % CHANNELS:
                inside.append(first < channels)
            value = upstream(n, row, column, first + lane)
            return t.guarded(t.all_of(*inside), value, 0.0) if inside else value

        def element(block: Any, n: Any, _: Any, number: Any, place: Any) -> Any:
            half, pair, lane = places(place)
            first = block * CHANNELS + half * HALF
            pixel = number * DEPTH + pair * 2
            return t.pair(read(n, first, lane, pixel), read(n, first, lane, pixel + 1))

        return t.compute((*outer, chunk // 2), element, "paired", {"dlc.anchor": "pair_pixels"})

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for of, (height, width, inputs) in cases():
            upstream = TensorType((2, *of.output_size(height, width), of.channels), DType.BFLOAT16)
            yield Sample(cls(Grid(of, height, width, inputs)), (upstream,), differentiable=False)


@dataclass(frozen=True)
class PairedWeightGradient(Op):
    """The gradient of a convolution by its weight, packed in blocks of 32, from planes and paired pixels; sums are float32.

    `is_linear`: the weight is a linear layer's, [ceil(O/32), I, 32]; the samples are the pixels of an image of one row.
    """

    grid: Grid
    is_linear: bool = False

    @property
    def _direct(self) -> Conv2dWeightGradient:
        of = replace(self.grid.of, block=CHANNELS)
        return Conv2dWeightGradient(**of.attributes(), in_channels=self.grid.inputs)

    def infer(self, *operands: TensorType) -> TensorType:
        planes, pairs = operands
        images = static(planes.shape[:1])[0]
        if planes.shape != self.grid.planes(images):
            raise ShapeError(f"the planes are {show(planes.shape)}; expected {show(self.grid.planes(images))}")
        check_paired(pairs, self.grid.pairs(images), planes)
        return TensorType(self._shape)

    @property
    def _shape(self) -> tuple[int, ...]:
        shape = self._direct.weight_shape(self.grid.inputs)
        return (shape[0], *shape[3:]) if self.is_linear else shape

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        deep = operands[1].shape[0] * CHANNELS  # what lies in the place of missing channels comes out there
        planes, pairs = widened(operands[0]), unpaired(operands[1], deep)
        grid, of = self.grid, self.grid.of
        own = grid.inputs // of.groups
        pixels = pairs[:, :, 0].reshape(of.groups, -1, planes.shape[0], grid.chunks * DEPTH)
        kernel = np.zeros((deep, own, *of.kernel), planes.dtype)
        for i, j in np.ndindex(*of.kernel):
            plane, start = _meets(grid, i, j)
            seen = planes[:, plane, : grid.inputs, start : start + grid.chunks * DEPTH]
            seen = seen.reshape(planes.shape[0], of.groups, own, -1)
            kernel[:, :, i, j] = np.einsum("ngcp,gonp->goc", seen, pixels, optimize=True).reshape(deep, own)
        return self._direct._packed(kernel).reshape(self._shape)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        planes, pairs = operands
        grid, of, images = self.grid, self.grid.of, int(operands[0].shape[0])
        own, group, (high, across) = grid.inputs // of.groups, of.channels // of.groups, of.kernel
        blocks, wide = int(pairs.shape[0]), round_up(own, grid.panel.wide)
        parts = grid.parts(images)
        together = images // parts
        n, tap, k = (t.reduce_axis(e, name) for e, name in ((together, "n"), (1, "tap"), (grid.chunks * DEPTH, "k")))

        def element(row: Any, j: Any, c: Any, lane: Any) -> Any:
            outer, i = row // high, row % high
            image = outer // blocks * together + n if parts > 1 else n
            o = (outer % blocks if parts > 1 else outer) * CHANNELS + lane
            plane, start = _meets(grid, i, j)
            pixel = planes(image, plane, o // group * own + c if of.groups > 1 else c, start + k)
            return t.sum(pixel * factor(t, pairs, o, image, tap, k), [n, tap, k])

        attributes: dict[str, Any] = {"dlc.anchor": "paired_gradient", "dlc.parts": parts, "dlc.rows": high}
        attributes |= {"dlc.high": grid.panel.high, "dlc.wide": grid.panel.wide}
        sums = t.compute((parts * blocks * high, across, wide, CHANNELS), element, "products", attributes)

        def total(block: Any, i: Any, j: Any, c: Any, lane: Any) -> Any:
            if parts == 1:
                return sums(block * high + i, j, c, lane)
            part = t.reduce_axis(parts, "part")
            return t.sum(sums((part * blocks + block) * high + i, j, c, lane), [part])

        attributes = {"dlc.part": "crop" if parts == 1 else "parts"}
        if self.is_linear:
            return t.compute(self._shape, lambda o, c, lane: total(o, 0, 0, c, lane), "total", attributes)
        return t.compute(self._shape, total, "total", attributes)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for of, (height, width, inputs) in cases():
            grid = Grid(of, height, width, inputs)
            for images in (2, 16):  # each alone, and some added up
                types = (TensorType(shape, DType.BFLOAT16) for shape in (grid.planes(images), grid.pairs(images)))
                yield Sample(cls(grid), tuple(types), differentiable=False)
        grid = Grid(Conv2d(40, (1, 1)), 1, 5, 33)
        yield Sample(
            cls(grid, True),
            (TensorType(grid.planes(1), DType.BFLOAT16), TensorType(grid.pairs(1), DType.BFLOAT16)),
            differentiable=False,
        )


def _meets(grid: Grid, i: Any, j: Any) -> tuple[Any, Any]:
    """The plane that the kernel's place (i, j) meets, and from where on."""
    (down, across), (row, column) = grid.of.stride, grid.of.dilation
    plane = i * row % down * grid.residues[1] + j * column % across
    return plane, i * row // down * grid.pitch + j * column // across
