"""Every .dlspec below tests/golden/errors is a mistake; what is said about it stands beside it, in a .txt of its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dlc.compiler.errors import DlcError
from dlc.compiler.frontend.parser import parse
from dlc.compiler.source import SourceFile

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
SYNTAX = sorted((GOLDEN / "errors" / "syntax").glob("*.dlspec"))


def _name(path: Path) -> str:
    return path.relative_to(GOLDEN).as_posix()


@pytest.mark.parametrize("path", SYNTAX, ids=lambda p: p.stem)
def test_a_syntax_mistake_is_explained(path: Path, golden: Callable[[str, str], None]) -> None:
    source = SourceFile(path.name, path.read_text(encoding="utf-8"))

    with pytest.raises(DlcError) as error:
        parse(source)

    golden(str(error.value), _name(path.with_suffix(".txt")))


def test_there_are_enough_syntax_mistakes_and_each_has_its_own_message() -> None:
    messages = [path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()[0] for path in SYNTAX]

    assert len(SYNTAX) >= 25
    assert len(set(messages)) >= len(SYNTAX) * 0.9
