"""The full vocabulary, and checking of texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dlc.api import vocabulary
from dlc.compiler.errors import Diagnostic, DlcError
from dlc.compiler.frontend import Checked, check
from dlc.compiler.network import Network
from dlc.compiler.source import SourceFile


def check_text(text: str, *settings: str, **options: Any) -> Checked:
    return check(SourceFile("spec.dlspec", text), vocabulary(), settings, **options)


@pytest.fixture
def checked() -> Callable[..., Checked]:
    """`checked(text, "train.batch=64")`."""
    return check_text


@pytest.fixture
def network() -> Callable[[str], Network]:
    """The only model of a text."""

    def build(text: str) -> Network:
        (model,) = check_text(text).models.values()
        return model.network

    return build


@pytest.fixture
def body(network: Callable[[str], Network]) -> Callable[..., Network]:
    """A model of one input [3, 32, 32] with these statements, behind these blocks."""

    def build(statements: str, blocks: str = "") -> Network:
        lines = "\n".join("    " + line.strip() for line in statements.strip().splitlines())
        return network(f"{blocks}\nmodel Net {{\n    input image: [3, 32, 32]\n{lines}\n}}\n")

    return build


@pytest.fixture
def mistakes() -> Callable[..., list[Diagnostic]]:
    """The diagnostics of a text that has mistakes."""

    def find(text: str, *settings: str, **options: Any) -> list[Diagnostic]:
        with pytest.raises(DlcError) as error:
            check_text(text, *settings, **options)
        return list(error.value.diagnostics)

    return find
