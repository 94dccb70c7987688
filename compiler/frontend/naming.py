"""The names of weights: dotted paths that follow the structure of the spec.

The rule, whole:

1. Names live in scopes. A model's own scope has no prefix. A scope's names are prefixed by its own name and a dot.
2. A label names what it stands before. On a layer it is the layer's name (`c1: conv(6, 5)` has `c1.weight`, `c1.bias`);
   on anything else (a block call, a chain in parentheses, `chain(…)`, `repeat(…)`, `fork(…)`) it opens a scope.
3. The items of `repeat` and of `chain(list)` are numbered from 0, in the scope where the `repeat` or `chain` stands, and
   a number works as a label does: on a layer it is its name, on anything else it opens a scope. A second `repeat` or
   `chain` in the same scope counts on. So `layer1: repeat(2, Basic(64))` holds `layer1.0.…` and `layer1.1.…`, and
   `features: chain([conv(64, 3), relu, conv(64, 3)])` holds `features.0.weight` and `features.2.weight`. A label within
   an item stands in the item's scope: `repeat(2, c: conv(8, 3))` holds `0.c.weight` and `1.c.weight`.
4. A layer without label or number is called by its keyword and its position among the unnamed layers of that keyword in
   its scope, from 1, in the order in which they are applied: `conv_1`, `batch_norm_1`, `conv_2`. A block call without label
   or number opens a scope that is named likewise: `ConvBN_1`, `ConvBN_2`.
5. Nothing else opens a scope: not `a -> b`, not `fork` and its branches, not `residual`.
6. A stage that is used again keeps the name, and so the weights, of its first use.

White space, comments and line breaks play no part, so `dlc fmt` renames nothing. Two things of one name in one scope are
an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dlc.compiler.frontend.values import Stage
from dlc.compiler.source import Span


@dataclass(eq=False)
class Scope:
    """One scope of names while it is filled.

    `again` marks the second and later uses of a shared stage: names are then those of the first use, on purpose.
    `seen` holds the stages that took a name of this scope in this pass, so that a stage bound in an earlier pass takes
    its place in the count once.
    """

    prefix: str = ""
    again: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    taken: dict[str, Span] = field(default_factory=dict)
    next_item: int = 0
    seen: set[Stage] = field(default_factory=set)

    def full(self, name: str) -> str:
        """A name of this scope with the scopes around it."""
        return f"{self.prefix}.{name}" if self.prefix else name

    def automatic(self, keyword: str) -> str:
        """The name of the next unnamed layer or block call of this keyword."""
        number = self.counts.get(keyword, 0) + 1
        self.counts[keyword] = number
        return f"{keyword}_{number}"

    def item(self) -> str:
        """The number of the next item of a `repeat` or a `chain`."""
        number = self.next_item
        self.next_item += 1
        return str(number)

    def claim(self, name: str, span: Span) -> Span | None:
        """Takes a name; the place of who has it already, None where it was free."""
        if name in self.taken:
            return self.taken[name]
        self.taken[name] = span
        return None
