"""Imports find files beside the spec and in the library, and nothing else on the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlc.compiler.errors import DlcError
from dlc.compiler.frontend.imports import MAX_FILES, Program, load, read


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a library beside it; the user stands above both."""
    (tmp_path / "library" / "blocks").mkdir(parents=True)
    (tmp_path / "library" / "blocks" / "residual.dlspec").write_text("block Residual = relu\n")
    (tmp_path / "library" / "resnet.dlspec").write_text('import "blocks/residual.dlspec"\n')
    (tmp_path / "project" / "parts").mkdir(parents=True)
    (tmp_path / "secret.dlspec").write_text("block Secret = relu\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _load(folder: Path, **files: str) -> Program:
    """The program of project/main.dlspec; `files` are texts by name, with __ for a slash."""
    for name, text in files.items():
        (folder / "project" / f"{name.replace('__', '/')}.dlspec").write_text(text, encoding="utf-8")
    return load("project/main.dlspec", folder / "library")


def _mistake(folder: Path, **files: str) -> str:
    with pytest.raises(DlcError) as error:
        _load(folder, **files)
    return str(error.value)


def test_files_come_before_their_importers_and_each_once(folder: Path) -> None:
    program = _load(
        folder,
        main='import "a.dlspec"\nimport "resnet.dlspec" as r\nimport "parts/b.dlspec"',
        a='import "parts/b.dlspec"\n',
        parts__b='import "blocks/residual.dlspec"\nimport "../c.dlspec"\n',
        c="block C = relu",
    )

    names = [file.source.name for file in program.files]
    assert names == [
        "library/blocks/residual.dlspec",
        "project/c.dlspec",
        "project/parts/b.dlspec",
        "project/a.dlspec",
        "library/resnet.dlspec",
        "project/main.dlspec",
    ]
    assert [target.path.name for _, target in program.main.imports] == ["a.dlspec", "resnet.dlspec", "b.dlspec"]


def test_a_file_beside_the_spec_goes_before_one_of_the_library(folder: Path) -> None:
    program = _load(folder, main='import "resnet.dlspec"', resnet="block Mine = relu")

    assert program.files[0].source.name == "project/resnet.dlspec"


@pytest.mark.parametrize(
    "path",
    [
        "../secret.dlspec",
        "parts/../../secret.dlspec",
        "link.dlspec",
        "linked/secret.dlspec",
        "/etc/passwd",
        "~/x.dlspec",
    ],
)
def test_nothing_outside_is_read(folder: Path, path: str) -> None:
    os.symlink(folder / "secret.dlspec", folder / "project" / "link.dlspec")
    os.symlink(folder, folder / "project" / "linked")

    assert "error[E0202]" in _mistake(folder, main=f'import "{path}"')


def test_an_absolute_path_into_the_project_is_refused_too(folder: Path) -> None:
    path = folder / "project" / "a.dlspec"

    assert "error[E0202]" in _mistake(folder, main=f'import "{path}"', a="")


def test_a_missing_file_gets_a_did_you_mean(folder: Path) -> None:
    text = _mistake(folder, main='import "blocks/residul.dlspec"\nimport "resnet"')

    assert text.count("error[E0201]") == 2
    assert "did you mean blocks/residual.dlspec?" in text
    assert "did you mean resnet.dlspec?" in text


def test_a_cycle_is_shown(folder: Path) -> None:
    text = _mistake(folder, main='import "a.dlspec"', a='import "b.dlspec"', b='import "a.dlspec"')

    assert "error[E0203]: import cycle: a.dlspec -> b.dlspec -> a.dlspec" in text
    assert "imported at project/main.dlspec:1:8" in text


def test_a_file_that_imports_itself_is_a_cycle(folder: Path) -> None:
    assert "error[E0203]: import cycle: main.dlspec -> main.dlspec" in _mistake(folder, main='import "main.dlspec"')


def test_the_mistakes_of_all_files_are_reported_together(folder: Path) -> None:
    text = _mistake(
        folder, main='import "a.dlspec"\nimport "b.dlspec"\nimport "no.dlspec"', a="modle X {}", b="block B = "
    )

    assert [line[6:11] for line in text.splitlines() if line.startswith("error")] == ["E0107", "E0106", "E0201"]


def test_a_broken_file_imported_twice_is_reported_once(folder: Path) -> None:
    text = _mistake(folder, main='import "a.dlspec"\nimport "b.dlspec"', a='import "b.dlspec"', b="block B = ")

    assert text.count("error[") == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"block A = relu\n\0", "E0205"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "E0205"),
        (b"block A = relu  # caf\xe9\n", "E0205"),
        ("block A = relu".encode("utf-16"), "E0205"),
        (b" " * 5_000_000, "E0206"),
        (b"x\n" * 600_000, "E0206"),
    ],
)
def test_what_is_no_spec_is_refused(folder: Path, content: bytes, code: str) -> None:
    (folder / "project" / "a.dlspec").write_bytes(content)

    with pytest.raises(DlcError) as main:
        load("project/a.dlspec")

    assert main.value.diagnostics[0].code == code
    assert f"error[{code}]" in _mistake(folder, main='import "a.dlspec"')


def test_what_is_no_file_is_refused(folder: Path) -> None:
    (folder / "project" / "folder.dlspec").mkdir()
    os.mkfifo(folder / "project" / "pipe.dlspec")
    os.symlink("loop.dlspec", folder / "project" / "loop.dlspec")
    (folder / "project" / "notes.txt").write_text("")

    lines = [
        f'import "{name}"' for name in ("folder.dlspec", "pipe.dlspec", "loop.dlspec", "notes.txt", "", "x" * 5_000)
    ]

    codes = [line[6:11] for line in _mistake(folder, main="\n".join(lines)).splitlines() if line.startswith("error")]
    assert codes == ["E0204", "E0204", "E0201", "E0201", "E0201", "E0201"]


@pytest.mark.parametrize(
    "path", ["no.dlspec", "project", "no/such.dlspec", "project/main.dlspec/x", "x" * 5_000, "a\0b"]
)
def test_the_main_file_may_be_missing_or_no_file(folder: Path, path: str) -> None:
    (folder / "project" / "main.dlspec").write_text("")

    with pytest.raises(DlcError) as error:
        load(path)

    assert error.value.diagnostics[0].code in ("E0201", "E0204")


def test_a_file_that_may_not_be_read_is_named(folder: Path) -> None:
    path = folder / "project" / "main.dlspec"
    path.write_text("")
    path.chmod(0)
    if os.access(path, os.R_OK):
        path.unlink()  # for root every file may be read

    with pytest.raises(DlcError, match=r"main\.dlspec"):
        load(path)


def test_the_number_of_files_is_limited(folder: Path) -> None:
    files = {f"f{n}": f'import "f{n + 1}.dlspec"' for n in range(MAX_FILES + 10)}

    assert "error[E0207]" in _mistake(folder, main='import "f0.dlspec"', **files)


def test_a_byte_order_mark_and_foreign_line_ends_are_taken_away(folder: Path) -> None:
    (folder / "a.dlspec").write_bytes("\N{ZERO WIDTH NO-BREAK SPACE}block A = relu\r\nblock B = relu\r".encode())

    assert read(Path("a.dlspec")).text == "block A = relu\nblock B = relu\n"
