"""LeNet-5's output units: distances to a prototype for each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from dlc.compiler.initializers.base import Initializer
from dlc.compiler.ir import ShapeError, Value
from dlc.compiler.layers.base import ArgumentError, BuildContext, FeatureShape, Layer, ParameterSpec
from dlc.compiler.layers.geometry import require_positive, show
from dlc.compiler.ops.elementwise import multiply, negative, subtract
from dlc.compiler.ops.reduction import reduce_sum
from dlc.compiler.ops.shape import reshape
from dlc.runtime.deferred import np

DIGITS = """
.#####. ...##.. .#####. .#####. .....#. ####### ..####. ####### .#####. .#####.
##...## ..###.. ##...## ##...## ....##. ##..... .##.... ##...## ##...## ##...##
##...## .####.. ##...## .....## ....##. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## ...###. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ....##. ..####. ##..... ##..... ....##. .##.##. ##...##
##...## ...##.. ...##.. ..###.. .##.##. ######. ######. ...##.. ..###.. .######
##...## ...##.. ..##... ....##. ##..##. .....## ##...## ...##.. .##.##. .....##
##...## ...##.. .##.... .....## ####### .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... .....## ....##. .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... ##...## ....##. ##...## ##...## .##.... ##...## ....##.
##...## ...##.. ##...## ##...## ....##. ##...## ##...## .##.... ##...## ...##..
.#####. .###### ####### .#####. ....##. .#####. .#####. .##.... .#####. .###...
"""


@dataclass(frozen=True)
class Rbf(Layer):
    """`rbf(classes=10, prototypes=digits, trainable=false)`: -|x - prototype|² for each class, LeCun et al. 1998, eq. 7.

    [F] -> [classes]. The paper's penalty is the squared distance; its negative is given here, so that the largest output is
    the answer, as everywhere. `digits` are 7x12 drawings of the ten digits in -1 and +1, which need 84 features, as in
    the paper; `random` are -1 and +1 at random. They stay as they are unless `trainable`. Weight [classes, F].
    """

    keyword: ClassVar[str] = "rbf"
    classes: int = 10
    prototypes: Literal["digits", "random"] = "digits"
    trainable: bool = False

    def __post_init__(self) -> None:
        require_positive(classes=self.classes)
        if self.prototypes == "digits" and self.classes > 10:
            raise ArgumentError("prototypes", f"there are ten digits, not {self.classes}; use prototypes=random")

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        if len(inputs[0]) != 1:
            raise ShapeError(f"rbf needs features [n], not {show(inputs[0])}")
        if self.prototypes == "digits" and inputs[0] != (84,):
            raise ShapeError(f"the digits of rbf are drawings of 84 pixels, the input is {show(inputs[0])}")
        return (self.classes,)

    def parameters(self, *inputs: FeatureShape) -> Mapping[str, ParameterSpec]:
        role = "weight" if self.trainable else "statistic"
        init = DigitDrawings() if self.prototypes == "digits" else RandomSigns()
        weight = ParameterSpec((self.classes, *inputs[0]), init, inputs[0][0], self.classes, self.trainable, role)
        return {"weight": weight}

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        batch, features = inputs[0].type.shape
        difference = subtract(reshape(inputs[0], (batch, 1, features)), context.parameters["weight"])
        return negative(reduce_sum(multiply(difference, difference), (2,)))


@dataclass(frozen=True)
class RandomSigns(Initializer):
    """-1 or +1, each with probability one half."""

    keyword: ClassVar[str] = "random_signs"

    def fill(self, shape: tuple[int, ...], fan_in: int, fan_out: int, generator: np.random.Generator) -> np.ndarray:
        return (2 * generator.integers(0, 2, shape) - 1).astype(np.float32)


@dataclass(frozen=True)
class DigitDrawings(Initializer):
    """The drawings of the digits 0 to 9, one a row: +1 for ink, -1 for paper."""

    keyword: ClassVar[str] = "digit_drawings"

    def fill(self, shape: tuple[int, ...], fan_in: int, fan_out: int, generator: np.random.Generator) -> np.ndarray:
        rows = [line.split() for line in DIGITS.strip().splitlines()]
        drawings = ["".join(row[digit] for row in rows) for digit in range(shape[0])]
        return np.array([[1.0 if pixel == "#" else -1.0 for pixel in drawing] for drawing in drawings], np.float32)
