"""Layouts: the map between a weight's canonical form, which files hold, and the packed form that kernels read.

A layout pads the canonical array with zeros, splits its axes and permutes them; all three can be undone.
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

    def pack(self, array: np.ndarray) -> np.ndarray:
        """The packed form, contiguous, of an array of `canonical_shape`."""
        if array.shape != self.canonical_shape:
            raise ValueError(f"expected shape {list(self.canonical_shape)}, got {list(array.shape)}")
        array = array.reshape(self.view)
        if self.padded != self.view:
            array = np.pad(array, [(0, to - have) for to, have in zip(self.padded, self.view, strict=True)])
        turned = np.ascontiguousarray(array.reshape(self.split).transpose(self.order))
        return self.then.pack(turned.reshape(self.then.canonical_shape)) if self.then else turned.reshape(self.packed)

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
