"""How much a spec may ask for. The language is data: checking one always ends, and soon."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of the checker; each has an error of its own (E09xx)."""

    block_depth: int = 64  # block, model and lambda calls inside one another
    expression_depth: int = 400  # expressions inside one another, over all calls
    evaluation_steps: int = 250_000  # expressions evaluated and stages applied for one model
    layers: int = 5_000  # layer calls of one network, and stages prepared for it
    tensor_elements: int = 2**31 - 1  # elements of one tensor, for one sample
    parameter_elements: int = 10**11  # weights of one network
    list_length: int = 100_000  # items of a list or a range
    integer_bits: int = 128  # size of an integer, either sign
    string_length: int = 10_000  # characters of a string
    errors: int = 100  # diagnostics of one file; later ones are dropped


DEFAULT = Limits()
