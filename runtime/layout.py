"""Forms of weights: the maps from a weight's canonical form, which files hold, to the form that kernels read.

A layout pads the canonical array with zeros, splits its axes and permutes them; all three can be undone. A transform makes
more numbers of it; files hold what it was made of.
"""

from __future__ import annotations

import msgspec

from dlc.runtime.deferred import np


class Layout(msgspec.Struct, frozen=True):
    """canonical -> reshape(`view`) -> zero-pad to `padded` -> reshape(`split`) -> transpose(`order`) -> reshape(`packed`).

    `view` regroups the canonical axes before padding (a linear layer's columns as channels, height, width). With `then`, the
    result of this layout's transpose is the canonical form of another, whose `packed` shape this one has too.
    """

    canonical_shape: tuple[int, ...]
    view: tuple[int, ...]
    padded: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    packed: tuple[int, ...]
    then: Layout | None = None

    def pack(self, array: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The packed form, contiguous, of an array of `canonical_shape`; in `out`, where given."""
        if array.shape != self.canonical_shape:
            raise ValueError(f"expected shape {list(self.canonical_shape)}, got {list(array.shape)}")
        array = array.reshape(self.view)
        if self.padded != self.view:
            array = np.pad(array, [(0, to - have) for to, have in zip(self.padded, self.view, strict=True)])
        turned = array.reshape(self.split).transpose(self.order)
        if self.then is not None:
            return self.then.pack(np.ascontiguousarray(turned).reshape(self.then.canonical_shape), out)
        if out is None:
            return np.ascontiguousarray(turned).reshape(self.packed)
        out.reshape(turned.shape)[...] = turned
        return out

    def unpack(self, array: np.ndarray) -> np.ndarray:
        """The canonical form, contiguous, of an array of the packed shape."""
        if array.shape != self.packed:
            raise ValueError(f"expected shape {list(self.packed)}, got {list(array.shape)}")
        if self.then:
            array = self.then.unpack(array)
        inverse = np.argsort(self.order)
        array = array.reshape(tuple(self.split[i] for i in self.order)).transpose(inverse).reshape(self.padded)
        array = array[tuple(slice(0, n) for n in self.view)]
        return np.ascontiguousarray(array.reshape(self.canonical_shape))


_PRODUCT = 2**18
"""Multiplications of a matrix product up to which BLAS takes no threads, which cost more than they bring."""


class Transform(msgspec.Struct, frozen=True):
    """The transformed weight of a convolution by tiles, [size², ceil(O/block), I, block], of the canonical [O, I, k, k].

    The k taps along each axis are multiplied by `matrix`, [size, k] (Lavin and Gray 2016, section 4.1: G g Gᵀ). `source`
    names the canonical weight.
    """

    source: str
    matrix: tuple[tuple[float, ...], ...]
    block: int

    def shape(self, weight: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what `apply` makes of a weight of this shape."""
        return len(self.matrix) ** 2, -(-weight[0] // self.block), weight[1], self.block

    def apply(self, weight: np.ndarray, result: np.ndarray) -> None:
        """Fills `result`; computed in float64 and rounded once."""
        matrix = np.asarray(self.matrix, np.float64)
        both = np.kron(matrix, matrix)
        taps = weight.reshape(*weight.shape[:2], -1)
        step = max(1, _PRODUCT // (both.size * self.block))
        for number in range(result.shape[1]):
            part = taps[number * self.block : (number + 1) * self.block]
            result[:, number, :, len(part) :] = 0
            for start in range(0, taps.shape[1], step):
                columns = part[:, start : start + step].transpose(2, 1, 0)
                product = both @ np.ascontiguousarray(columns, np.float64).reshape(len(columns), -1)
                result[:, number, start : start + step, : len(part)] = product.reshape(len(both), *columns.shape[1:])
