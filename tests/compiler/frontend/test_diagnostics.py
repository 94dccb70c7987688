"""Every .dlspec below tests/golden/errors is a mistake; what is said about it stands beside it, in a .txt of its name.

Files whose names start with `_` are there to be imported by others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dlc.api import vocabulary
from dlc.compiler.errors import DlcError
from dlc.compiler.frontend import check
from dlc.compiler.frontend.parser import parse
from dlc.compiler.source import SourceFile

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
SPECS = sorted(p for p in (GOLDEN / "errors").rglob("*.dlspec") if not p.name.startswith("_"))
SYNTAX = [p for p in SPECS if p.parent.name == "syntax"]
SEMANTIC = [p for p in SPECS if p.parent.name != "syntax"]


def _expected(path: Path) -> str:
    return path.with_suffix(".txt").relative_to(GOLDEN).as_posix()


@pytest.mark.parametrize("path", SYNTAX, ids=lambda p: p.stem)
def test_a_syntax_mistake_is_explained(path: Path, golden: Callable[[str, str], None]) -> None:
    source = SourceFile(path.name, path.read_text(encoding="utf-8"))

    with pytest.raises(DlcError) as error:
        parse(source)

    golden(str(error.value), _expected(path))


@pytest.mark.parametrize("path", SEMANTIC, ids=lambda p: p.stem)
def test_a_mistake_of_meaning_is_explained(
    path: Path, golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)

    with pytest.raises(DlcError) as error:
        check(Path(path.name), vocabulary())

    golden(str(error.value), _expected(path))


def test_there_are_enough_mistakes_and_nearly_each_has_its_own_message() -> None:
    first_lines = [path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()[0] for path in SPECS]

    assert len(SPECS) >= 80
    assert len(set(first_lines)) >= len(SPECS) * 0.9


def test_every_expected_text_has_its_spec() -> None:
    texts = {p.with_suffix(".dlspec") for p in (GOLDEN / "errors").rglob("*.txt")}

    assert texts == set(SPECS)
