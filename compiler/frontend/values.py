"""Compile-time values of the language: what an expression can evaluate to.

Integers, floats, booleans, strings, lists, tuples and ranges are Python's own; `none` is None. The classes here are the
rest: measures (`10%`), words (`same`), stages, functions, and the unknown value that stands for what a mistake left
behind, so that one mistake gives one message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dlc.compiler.layers.base import Layer
from dlc.compiler.network import Tensor
from dlc.compiler.source import Span

if TYPE_CHECKING:
    from dlc.compiler.frontend import ast
    from dlc.compiler.frontend.environment import Environment


SIZES = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
"""Units of memory, each with its bytes."""


@dataclass(frozen=True)
class Measure:
    """A number with a unit: `10%`, `10deg`, `1 epoch`, `500 steps`, `2GB`. `unit` is "%", "deg", "epoch", "step" or one of
    SIZES."""

    amount: float
    unit: str

    def __str__(self) -> str:
        amount = f"{self.amount:g}"
        if self.unit in ("%", "deg", *SIZES):
            return amount + self.unit
        return f"{amount} {self.unit}" + ("" if self.amount == 1 else "s")


@dataclass(frozen=True)
class Word:
    """A name that stands for itself, as `same` in `pad=same`."""

    text: str


@dataclass(frozen=True)
class Poison:
    """The value of something wrong that has been reported. Whatever it touches is unknown too, and says nothing."""


POISON = Poison()


@dataclass(frozen=True, eq=False)
class Stage:
    """A function from tensor to tensor, not yet applied. Compared by identity: one stage, one set of weights."""

    span: Span


@dataclass(frozen=True, eq=False)
class LayerStage(Stage):
    """One layer: `conv(64, 3)`."""

    layer: Layer


@dataclass(frozen=True, eq=False)
class IdentityStage(Stage):
    """`identity`: its input."""


@dataclass(frozen=True, eq=False)
class ChainStage(Stage):
    """`a -> b`."""

    stages: tuple[Stage, ...]


@dataclass(frozen=True, eq=False)
class ForkStage(Stage):
    """`fork(a, b)`: the same input to each, the results as a tuple."""

    branches: tuple[Stage, ...]


@dataclass(frozen=True, eq=False)
class ResidualStage(Stage):
    """`residual(body, shortcut)`: `fork(body, shortcut) -> add`."""

    body: Stage
    shortcut: Stage


@dataclass(frozen=True, eq=False)
class NumberedStage(Stage):
    """`repeat(n, stage)` and `chain(list)`: stages in a row whose weights are numbered."""

    stages: tuple[Stage, ...]
    keyword: str


@dataclass(frozen=True, eq=False)
class LabelledStage(Stage):
    """`conv1: conv(64, 3)`."""

    label: str
    stage: Stage


@dataclass(frozen=True, eq=False)
class BlockStage(Stage):
    """A block with its arguments; the body runs when the input is known."""

    block: BlockFunction
    arguments: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class FunctionStage(Stage):
    """A lambda that stands where a stage is wanted: it is called with the tensor."""

    function: LambdaFunction


@dataclass(frozen=True, eq=False)
class UnknownStage(Stage):
    """A stage that a mistake left behind: its result is unknown."""


@dataclass(frozen=True, eq=False)
class Parameter:
    """A declared parameter of a block or a model; `annotation` is a type from `annotations.py` or None."""

    name: str
    annotation: Any
    default: ast.Expression | None
    span: Span


@dataclass(frozen=True, eq=False)
class BlockFunction:
    """`block Basic(channels, stride = 1) …`: calling it makes a BlockStage."""

    name: str
    parameters: tuple[Parameter, ...]
    declaration: Any  # ast.Block
    environment: Environment = field(repr=False)


@dataclass(frozen=True, eq=False)
class ModelFunction:
    """`model ResNet(block, depths) …` or `model ResNet18 = ResNet(…)`. Only recipes and instances call it."""

    name: str
    parameters: tuple[Parameter, ...]
    declaration: Any  # ast.Model
    environment: Environment = field(repr=False)


@dataclass(frozen=True, eq=False)
class LambdaFunction:
    """`i => …`, with the names it was written among."""

    parameters: tuple[str, ...]
    body: Any  # ast.Expression
    environment: Environment = field(repr=False)
    span: Span


@dataclass(frozen=True)
class LayerFunction:
    """A layer's name, before its call: `conv`, or `relu` where it stands for `relu()`."""

    keyword: str
    layer: type[Layer]


@dataclass(frozen=True)
class BuiltinFunction:
    """`fork`, `repeat`, `len` …"""

    name: str


@dataclass(frozen=True, eq=False)
class Module:
    """The definitions of a file imported with `as`: name -> block or model."""

    name: str
    names: Mapping[str, Any]


Function = BlockFunction | ModelFunction | LambdaFunction | LayerFunction | BuiltinFunction


def is_tensors(value: object) -> bool:
    """Whether a value is a tensor or a tuple of tensors: what a chain may start with."""
    return isinstance(value, Tensor) or (isinstance(value, tuple) and bool(value) and all(map(is_tensors, value)))


def show_shape(shape: Sequence[int]) -> str:
    """`[64, 56, 56]`, as messages show shapes."""
    return "[" + ", ".join(map(str, shape)) + "]"


def show(value: object) -> str:
    """A value as one would write it, cut to a line's worth: `Basic(channels=128)`'s 128."""
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "none"
        case str():
            text = value if len(value) <= 30 else value[:27] + "…"
            return f'"{text}"'
        case float():
            return f"{value:g}"
        case int():
            text = str(value) if value.bit_length() <= 256 else "a large integer"
            return text
        case Word():
            return value.text
        case list() | tuple():
            left, right = ("[", "]") if isinstance(value, list) else ("(", ")")
            items = [show(v) for v in value[:5]] + (["…"] if len(value) > 5 else [])
            return left + ", ".join(items) + right
        case range():
            return f"{value.start}..{value.stop}"
        case Tensor():
            return show_shape(value.shape)
        case BlockFunction() | ModelFunction() | BuiltinFunction():
            return value.name
        case LayerFunction():
            return value.keyword
        case LayerStage():
            return value.layer.keyword
        case BlockStage():
            return value.block.name
        case LabelledStage():
            return show(value.stage)
        case IdentityStage():
            return "identity"
        case LambdaFunction():
            return f"{', '.join(value.parameters)} => …"
        case _:
            return str(value) if isinstance(value, Measure) else "…"


def kind(value: object) -> str:
    """What a value is, with its article, for messages: "the integer 3", "a tensor [64, 56, 56]"."""
    match value:
        case bool() | None:
            return f"`{show(value)}`"
        case int():
            return f"the integer {show(value)}"
        case float():
            return f"the number {show(value)}"
        case str():
            return f"the text {show(value)}"
        case Word():
            return f"the word `{value.text}`"
        case Measure():
            return str(value)
        case list():
            return f"a list of {len(value)}"
        case tuple() if is_tensors(value):
            return f"a tuple of {len(value)} tensors"
        case tuple():
            return f"the tuple {show(value)}"
        case range():
            return f"the range {show(value)}"
        case Tensor():
            return f"a tensor {show_shape(value.shape)}"
        case BlockFunction():
            return f"the block `{value.name}`"
        case ModelFunction():
            return f"the model `{value.name}`"
        case LambdaFunction():
            return "a function"
        case LayerFunction():
            return f"the layer `{value.keyword}`"
        case BuiltinFunction():
            return f"`{value.name}`"
        case Module():
            return f"the file `{value.name}`"
        case LayerStage() | BlockStage():
            return f"a stage (`{show(value)}`)"
        case Stage():
            return "a stage"
        case _:
            return "an unknown value"
