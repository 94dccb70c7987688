"""The graph: typed static single assignment with a symbolic batch."""

from dlc.compiler.ir.graph import (
    Constant,
    Fusion,
    Graph,
    Input,
    NotDifferentiable,
    Op,
    Parameter,
    Sample,
    ShapeError,
    Source,
    Value,
    apply,
    source,
)
from dlc.compiler.ir.types import Batch, Dim, DType, N, Shape, TensorType

__all__ = [
    "Batch",
    "Constant",
    "DType",
    "Dim",
    "Fusion",
    "Graph",
    "Input",
    "N",
    "NotDifferentiable",
    "Op",
    "Parameter",
    "Sample",
    "Shape",
    "ShapeError",
    "Source",
    "TensorType",
    "Value",
    "apply",
    "source",
]
