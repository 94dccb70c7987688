"""The token of a spec, and the words that open its definitions."""

from __future__ import annotations

from dlc.compiler.source import SourceFile, Span

DEFINITIONS = {"import": "IMPORT", "model": "MODEL", "block": "BLOCK", "data": "DATA", "train": "TRAIN"}
"""The words that open an item of a file, with their terminals."""


class Word(str):
    """A token of a file: its text, its terminal's name as `type`, where it stands and how far from its line's start."""

    __slots__ = ("end", "file", "indentation", "start", "type")

    type: str
    file: SourceFile
    start: int
    end: int
    indentation: int

    @classmethod
    def of(cls, kind: str, text: str, file: SourceFile, start: int, end: int, indentation: int) -> Word:
        """The token `file.text[start:end]`, or one made up for that place."""
        word = cls(text)
        word.type, word.file, word.start, word.end, word.indentation = kind, file, start, end, indentation
        return word

    @property
    def span(self) -> Span:
        """Where it stands."""
        return Span(self.file, self.start, self.end)

    def become(self, kind: str, text: str = "") -> Word:
        """A token of another kind in the same place."""
        return Word.of(kind, text, self.file, self.start, self.end, self.indentation)
