"""The fault of an argument that has the right type but a value that makes no sense."""

from __future__ import annotations


class ArgumentError(ValueError):
    """`field` names the argument, `sentence` is what follows it in a message ("must be above 0, not -1").

    Raised when a schedule, transform, source, metric or stopping rule is made; the checker turns it into a diagnostic at
    the argument's place.
    """

    def __init__(self, field: str, sentence: str) -> None:
        self.field = field
        self.sentence = sentence
        super().__init__(field, sentence)

    def __str__(self) -> str:
        return f"`{self.field}` {self.sentence}"
