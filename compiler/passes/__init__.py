"""Passes: graph to graph (or graph and weights to graph and weights), each a frozen dataclass of its options."""

from dlc.compiler.passes.fold import FoldConstants
from dlc.compiler.passes.fuse import Fuse, Kernel
from dlc.compiler.passes.narrow_factors import NarrowFactors
from dlc.compiler.passes.pack_weights import PackWeights
from dlc.compiler.passes.pair_products import PairProducts
from dlc.compiler.passes.pair_weights import PairWeights
from dlc.compiler.passes.recompute import Recompute
from dlc.compiler.passes.reduce_precision import ReducePrecision
from dlc.compiler.passes.simplify import Simplify
from dlc.compiler.passes.winograd import Winograd
from dlc.compiler.passes.winograd_gradient import WinogradGradient

__all__ = [
    "FoldConstants",
    "Fuse",
    "Kernel",
    "NarrowFactors",
    "PackWeights",
    "PairProducts",
    "PairWeights",
    "Recompute",
    "ReducePrecision",
    "Simplify",
    "Winograd",
    "WinogradGradient",
]
