"""How a mistake is shown."""

from __future__ import annotations

import pytest

from dlc.compiler.errors import COLUMNS, Diagnostic
from dlc.compiler.source import SourceFile, Span


@pytest.mark.parametrize("place", [0, 30, 200, 4_000, 8_990])
def test_a_long_line_is_cut_around_the_culprit(place: int) -> None:
    text = "a" * place + "WRONG" + "b" * (9_000 - place)

    _, _, _, shown, pointer = (
        Diagnostic("E0100", "x", Span(SourceFile("f", text), place, place + 5)).render().split("\n")
    )

    assert len(shown) <= COLUMNS + 4
    assert shown[pointer.index("^") : pointer.rindex("^") + 1] == "WRONG"


def test_a_culprit_that_is_longer_than_the_screen_is_underlined_as_far_as_it_shows() -> None:
    text = "x" * 5_000

    _, _, _, shown, pointer = Diagnostic("E0100", "x", Span(SourceFile("f", text), 10, 4_000)).render().split("\n")

    assert shown.endswith("x…")
    assert len(pointer) == len(shown)


def test_a_short_line_is_shown_whole() -> None:
    shown = Diagnostic("E0100", "x", Span(SourceFile("f", "  a -> b"), 7, 8)).render()

    assert shown == "error[E0100]: x\n --> f:1:8\n  |\n1 |   a -> b\n  |        ^"
