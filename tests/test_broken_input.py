"""Whatever a file holds, the command line ends with a message and status 1, or with success; never with a traceback."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from dlc.cli import main
from dlc.compiler.frontend.imports import LIBRARY

WORD = re.compile(r'"[^"\n]*"|\w+|->|=>|\.\.|[^\s\w]|\n')
SPECS = [path.read_text(encoding="utf-8") for path in sorted(LIBRARY.rglob("*.dlspec"))]
WORDS = [*{word: None for text in SPECS for word in WORD.findall(text)}, "}", "{", ")", '"', "\0", "é", "1e999", "-1"]
COMMANDS = (["check", "--json"], ["fmt", "--check"], ["show"], ["show", "--after", "parse"])


def _run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    """Runs a command; anything but success and a reported mistake raises or fails."""
    monkeypatch.setattr(sys, "argv", ["dlc", *map(str, arguments)])
    status: object = 0
    try:
        main()
    except SystemExit as stop:
        status = stop.code
    done = capsys.readouterr()

    assert status in (0, None) or (status == 1 and ("error" in done.err or "would format" in done.out))


@pytest.mark.parametrize("seed", range(60))
def test_a_spec_with_words_lost_doubled_and_exchanged(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    text = chance.choice(SPECS)
    for _ in range(chance.choice([1, 1, 2, 4])):
        word = chance.choice(list(WORD.finditer(text)))
        kept = chance.choice(["", f"{word.group()} "])
        text = text[: word.start()] + kept + chance.choice(["", *chance.choices(WORDS, k=4)]) + text[word.end() :]
    path = tmp_path / "broken.dlspec"
    path.write_text(text, encoding="utf-8")
    command, *options = COMMANDS[seed % len(COMMANDS)]

    _run(capsys, monkeypatch, command, path, *options)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small network, compiled."""
    from dlc import api

    folder = tmp_path_factory.mktemp("compiled")
    (folder / "m.dlspec").write_text(
        "model M {\n    input x: [1, 4, 4]\n    x -> flatten -> linear(3) -> output y\n}\n"
    )
    return api.compile_to_file(folder / "m.dlspec", folder / "m.dlc").artifact.read_bytes()


@pytest.mark.parametrize("seed", range(60))
def test_an_artifact_with_bytes_lost_added_and_changed(
    seed: int, artifact: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    content = bytearray(artifact)
    for _ in range(chance.choice([1, 3, 10])):
        start = chance.randrange(chance.choice([64, 2000, len(content)]))
        length = chance.choice([1, 8, 1000])
        content[start : start + length] = chance.choice([b"", b"\xff" * 8, chance.randbytes(length)])
    (tmp_path / "broken.dlc").write_bytes(content)
    np.save(tmp_path / "one.npy", np.zeros((1, 1, 4, 4), np.float32))

    _run(capsys, monkeypatch, "run", tmp_path / "broken.dlc", tmp_path / "one.npy")
