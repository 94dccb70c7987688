"""Compiling from the command line: the cache, and the bar that a terminal sees."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from dlc import progress
from dlc.cli import main
from dlc.progress import CompilingBar

LENET = str(Path(__file__).parent.parent / "specs" / "lenet5.dlspec")


class Terminal(io.StringIO):
    """Keeps what is shown on it."""

    def isatty(self) -> bool:
        return True


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["dlc", *map(str, arguments)])
    main()


def test_the_cache_can_be_seen_emptied_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def usage(*options: str) -> int:
        capsys.readouterr()
        call(monkeypatch, "cache", *options, "--json")
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert said["folder"] == str(tmp_path / "dlc" / "compiled")
        return int(said["entries"])

    out = tmp_path / "model.dlc"
    call(monkeypatch, "compile", LENET, "--model", "LeNet5", "-o", out, "--no-cache")
    assert usage() == 0
    first = out.read_bytes()
    call(monkeypatch, "compile", LENET, "--model", "LeNet5", "-o", out)
    assert usage() > 5
    assert out.read_bytes() == first
    assert usage("--clear") == 0


def test_a_cache_that_cannot_be_used_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dlc").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    call(monkeypatch, "cache")

    assert "cannot be used: nothing is kept" in capsys.readouterr().out
    call(monkeypatch, "compile", LENET, "--model", "LeNet5", "-o", tmp_path / "model.dlc")


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, patience: float) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "PATIENCE", patience)
    with CompilingBar() as bar:
        for part in (0.1, 0.5, 1.0):
            bar(part)
    return stream.getvalue()


def test_a_terminal_sees_a_bar_while_compiling_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "compiling" in shown(monkeypatch, Terminal(), 0.0)
    assert shown(monkeypatch, Terminal(), 60.0) == ""


def test_a_pipe_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO(), 0.0) == ""


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    from dlc import api

    parts: list[float] = []
    api.compile_to_file(LENET, tmp_path / "m.dlc", model="LeNet5", cache=False, progress=parts.append)

    assert parts == sorted(parts)
    assert 0 < parts[0] < 0.2
    assert parts[-1] == pytest.approx(1)
