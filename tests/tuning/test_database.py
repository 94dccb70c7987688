"""The database of measured choices: what it gives back, damage, other circumstances, folders that others may write to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlc.compiler.choices import Choice, ConvolutionCut, Form, LinearCut, OneCore
from dlc.compiler.codegen import tuning
from dlc.compiler.codegen.target import CpuTarget, Target
from dlc.compiler.codegen.tuning import Database, Measured, user_database
from dlc.compiler.errors import DlcError
from dlc.compiler.passes.winograd_tasks import Tasks

CHOICES: dict[str, Choice] = {
    "a": Form(3),
    "b": ConvolutionCut(7, 2, 14, 3, shared=False),
    "c": LinearCut(4, 2),
    "d": OneCore(),
    "e": Tasks(1, 2, 8, 4, 1, 2, 6, 3, 64, shared=0),
}


def measured(choices: dict[str, Choice]) -> list[Measured]:
    return [Measured(workload, "conv2d", choice, 10.0, 8.0) for workload, choice in choices.items()]


@pytest.fixture
def target() -> CpuTarget:
    found = Target.parse("cpu")
    assert isinstance(found, CpuTarget)
    return found


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "made" / "measured.jsonl")


def test_every_kind_of_choice_comes_back(database: Database, target: CpuTarget) -> None:
    database.add(target, measured(CHOICES))

    reading = database.read(target)
    assert dict(reading.choices.measured) == CHOICES
    assert reading.damaged == 0
    assert database.count() == 5


def test_a_database_that_is_not_there_holds_nothing(database: Database, target: CpuTarget) -> None:
    assert not database.read(target).choices
    assert database.count() == 0


def test_later_lines_go_before_earlier_ones(database: Database, target: CpuTarget) -> None:
    database.add(target, measured({"a": Form(2)}))
    database.add(target, measured({"a": Form(4)}))

    assert database.read(target).choices.form("a") == Form(4)
    assert database.count() == 1


def test_forms_and_cuts_are_not_taken_for_each_other(database: Database, target: CpuTarget) -> None:
    database.add(target, measured(CHOICES))
    choices = database.read(target).choices

    assert choices.cut("a") is None
    assert choices.form("b") is None


@pytest.mark.parametrize("damage", ["cut", "changed", "text", "bytes"])
def test_damaged_lines_are_left_out_and_counted(database: Database, target: CpuTarget, damage: str) -> None:
    database.add(target, measured(CHOICES))
    lines = database.path.read_bytes().splitlines()
    lines[1] = {
        "cut": lines[1][:40],
        "changed": lines[1].replace(b'"rows": 14', b'"rows": 99999999'),
        "text": b"not JSON at all",
        "bytes": b"\xff\x00[]",
    }[damage]
    database.path.write_bytes(b"\n".join(lines))

    reading = database.read(target)
    assert reading.damaged == 1
    assert dict(reading.choices.measured) == {w: c for w, c in CHOICES.items() if w != "b"}


def test_what_another_version_of_the_compiler_measured_is_not_taken(
    database: Database, target: CpuTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.add(target, measured(CHOICES))
    monkeypatch.setattr(tuning, "compiler_version", lambda: "another")

    assert not database.read(target).choices


def test_what_another_processor_measured_is_not_taken(
    database: Database, target: CpuTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.add(target, measured(CHOICES))
    monkeypatch.setattr(tuning, "this_processor", lambda: "another")

    assert not database.read(target).choices


def test_what_holds_for_one_target_does_not_hold_for_another(database: Database, target: CpuTarget) -> None:
    database.add(target, measured(CHOICES))
    other = Target.parse("aarch64")
    assert isinstance(other, CpuTarget)

    assert not database.read(other).choices


def test_a_kind_that_this_version_does_not_know_is_not_taken(database: Database, target: CpuTarget) -> None:
    database.add(target, measured({"a": Form(2)}))
    record = json.loads(database.path.read_text())
    del record["digest"]
    record["kind"] = "Unheard"
    database.path.write_text(json.dumps({**record, "digest": tuning._digest(record)}))

    assert not database.read(target).choices


def test_the_user_s_database_is_in_a_folder_that_nobody_else_may_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = user_database()
    assert found is not None
    assert found.path == tmp_path / "dlc" / "tuning" / "measured.jsonl"

    found.path.parent.chmod(0o777)

    assert user_database() is None


def test_a_database_that_is_named_must_be_there(target: CpuTarget, tmp_path: Path) -> None:
    with pytest.raises(DlcError, match="E0892"):
        tuning.measured_choices(target, tmp_path / "missing.jsonl")


def test_nothing_is_measured_for_a_gpu(tmp_path: Path) -> None:
    assert not tuning.measured_choices(Target.parse("cuda")).choices
