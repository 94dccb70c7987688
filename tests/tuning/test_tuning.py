"""`dlc tune`: it ends, keeps what is faster and nothing else, and what it keeps reaches compile, train and cache."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc import DlcError, api, training
from dlc.cli import main
from dlc.compiler.choices import Choices, OneCore
from dlc.compiler.codegen import peaks as peaks_module
from dlc.compiler.codegen.cache import BuildOptions
from dlc.compiler.codegen.peaks import Peaks
from dlc.compiler.codegen.target import CpuTarget, Target
from dlc.compiler.codegen.tuning import Measured, user_database
from dlc.runtime.artifact import read_manifest
from dlc.tuning import search as search_module
from dlc.tuning import subjects as subjects_module
from dlc.tuning import tune as tune_module
from dlc.tuning.measuring import Comparison, alternate
from dlc.tuning.search import Search
from dlc.tuning.subjects import Group
from dlc.tuning.tune import tune


def claims(ratio: float) -> Callable[..., Comparison]:
    """A measurement that always finds this ratio."""
    return lambda *arguments, **more: Comparison(np.ones(20), np.full(20, ratio))


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's peaks are not measured."""
    monkeypatch.setattr(peaks_module, "_measure", lambda threads: Peaks(threads, 1e11, 1e10))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is tried is faster, and so is the whole network; a search has eight turns, however long they take."""

    def eight_turns(self: Search, until: float, report: Callable[[Group], object]) -> None:
        for _ in range(8):
            group = max(self.groups, key=lambda g: g.potential)
            report(group)
            self.turn(group)

    monkeypatch.setattr(search_module, "alternate", claims(0.9))
    monkeypatch.setattr(tune_module, "alternate", claims(0.9))
    monkeypatch.setattr(Search, "run", eight_turns)


def test_tuning_ends_and_says_what_it_tried(spec: Path, tmp_path: Path) -> None:
    told: list[float] = []
    result = tune(
        spec,
        model="Small",
        minutes=0.02,
        batch=1,
        database=tmp_path / "m.jsonl",
        report=lambda what, part: told.append(part),
    )

    assert result.name == "Small"
    assert result.refused == 0
    assert told == sorted(told)
    assert (tmp_path / "m.jsonl").exists() is result.kept


def test_what_is_found_is_what_compile_takes_and_computes_the_same(eager: None, spec: Path, tmp_path: Path) -> None:
    database = tmp_path / "m.jsonl"
    result = tune(spec, model="Small", batch=2, database=database)
    assert result.kept and result.gains and result.refused == 0
    plain = api.compile(spec, model="Small", batch=2, tuning=False)
    tuned = api.compile(spec, model="Small", batch=2, tuning=database)

    assert not plain.manifest.tuning
    assert tuned.manifest.tuning
    x = np.random.default_rng(0).standard_normal((2, 8, 13, 11), np.float32)
    np.testing.assert_allclose(tuned(x), plain(x), atol=2e-5)
    tuned.save(tmp_path / "t.dlc")
    assert read_manifest(tmp_path / "t.dlc").tuning == tuned.manifest.tuning
    another = api.compile(spec, model="Digits", batch=2, tuning=database)  # none of its workloads was measured
    assert not another.manifest.tuning


def test_what_makes_the_network_slower_is_not_kept(
    eager: None, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_module, "alternate", claims(1.02))
    result = tune(spec, model="Small", batch=1, database=tmp_path / "m.jsonl")

    assert result.gains and not result.kept
    assert not (tmp_path / "m.jsonl").exists()


def test_ctrl_c_keeps_what_was_found(eager: None, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, turns = Search.turn, list[Group]()

    def interrupted(self: Search, group: Group) -> None:
        turns.append(group)
        if len(turns) > 3:
            raise KeyboardInterrupt
        turn(self, group)

    monkeypatch.setattr(Search, "turn", interrupted)
    result = tune(spec, model="Small", batch=1, database=tmp_path / "m.jsonl")

    assert result.stopped and result.kept
    assert (tmp_path / "m.jsonl").exists()


def test_wrong_results_are_refused(eager: None, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "agree", lambda results, expected: False)
    result = tune(spec, model="Small", batch=1, database=tmp_path / "m.jsonl")

    assert result.refused > 0
    assert not result.gains and not result.kept


def test_a_training_step_is_tuned_in_every_form_and_trains_the_same(
    eager: None, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects_module, "_HOPELESS", 1e9)
    database = tmp_path / "m.jsonl"
    result = tune(spec, train=True, database=database)
    assert result.name == "Quick" and result.kept and result.refused == 0
    reports = [
        api.train(spec, out=tmp_path / name, tuned=tuned) for name, tuned in (("plain", False), ("tuned", database))
    ]

    losses = [r.history[0]["train.loss"] for r in reports]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_training_takes_what_was_measured_only_when_it_is_told(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run is the uninterrupted one bit for bit, whatever was measured in between."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    target, database = Target.parse("cpu"), user_database()
    assert isinstance(target, CpuTarget) and database is not None
    database.add(target, [Measured("a", "conv2d", OneCore(), 2.0, 1.0)])
    taken: list[Choices] = []

    def session(*arguments: Any, options: BuildOptions, **more: Any) -> None:
        taken.append(options.choices)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "TrainingSession", session)
    for more in ({}, {"tuned": True}, {"tuned": database.path}):
        with pytest.raises(KeyboardInterrupt):
            api.train(spec, out=tmp_path / "out", **more)

    assert [dict(choices.measured) for choices in taken] == [{}, {"a": OneCore()}, {"a": OneCore()}]


def test_a_target_that_cannot_run_here_cannot_be_tuned(spec: Path) -> None:
    for target in ("cuda", "aarch64" if sys.platform == "linux" else "cuda"):
        with pytest.raises(DlcError, match="E0890"):
            tune(spec, model="Small", target=target)


def test_a_database_that_cannot_be_written_is_the_user_s_mistake(eager: None, spec: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DlcError, match="E0891"):
        tune(spec, model="Small", batch=1, database=tmp_path / "file" / "m.jsonl")


def test_four_of_five_rounds_have_to_be_won() -> None:
    one = np.ones(20)
    steady, lucky = np.full(20, 0.95), np.where(np.arange(20) < 12, 0.5, 1.1)

    assert Comparison(one, steady).other_is_faster(0.97)
    assert not Comparison(one, steady).other_is_faster(0.9)
    assert not Comparison(one, lucky).other_is_faster(0.97)


def test_two_take_turns_and_each_is_first_as_often() -> None:
    seen: list[str] = []

    def named(name: str) -> Callable[[], float]:
        def run() -> float:
            seen.append(name)
            return 1.0 if name == "a" else 2.0

        return run

    compared = alternate(named("a"), named("b"), 0.0, least=4)

    assert "".join(seen) == "ab" + "ab" + "ba" + "ab" + "ba"
    assert compared.ratio == 2.0


@pytest.fixture
def dlc(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dlc", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_from_tune_to_compile_to_cache(eager: None, dlc: Any, spec: Path, tmp_path: Path) -> None:
    status, out, _ = dlc("tune", spec, "--model", "Small", "--batch", "1", "--json")
    assert status == 0
    facts = json.loads(out.splitlines()[-1])
    assert facts["kept"] and facts["gains"]
    assert "µs before" in out and "kept in" in out
    path = Path(facts["database"])
    assert path == tmp_path / "cache" / "dlc" / "tuning" / "measured.jsonl"

    compiling = ("compile", spec, "--model", "Small", "--batch", "1", "-o", tmp_path / "m.dlc", "--json")
    status, out, err = dlc(*compiling)
    tuned = json.loads(out.splitlines()[-1])["tuned"]
    assert status == 0 and tuned > 0
    assert f"{tuned} choices as measured on this machine" in err

    status, out, err = dlc(*compiling, "--no-tuning")
    assert json.loads(out.splitlines()[-1])["tuned"] == 0
    assert "measured" not in err

    path.write_bytes(path.read_bytes() + b"damaged\n")
    status, out, err = dlc(*compiling)
    assert status == 0
    assert "1 lines of the tuning database are damaged" in err

    status, out, _ = dlc("cache", "--json")
    assert json.loads(out.splitlines()[-1])["choices"] > 0
    status, out, _ = dlc("cache", "--clear", "--json")
    assert json.loads(out.splitlines()[-1])["choices"] == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tune", "SPEC", "--recipe", "Quick"), "--recipe is about --train"),
        (("tune", "SPEC", "--train", "--batch", "2"), "leave --model and --batch"),
        (("tune", "SPEC", "--train", "--target", "x86-64-v3"), "leave --target"),
        (("tune", "SPEC", "--minutes", "0"), "--minutes"),
        (("tune", "SPEC", "--batch", "0"), "--batch"),
        (("compile", "SPEC", "--no-tuning", "--database", "x"), "--no-tuning leaves what was measured"),
    ],
)
def test_wrong_usage_exits_with_2(dlc: Any, spec: Path, arguments: tuple[str, ...], said: str) -> None:
    status, _, err = dlc(*(spec if a == "SPEC" else a for a in arguments))

    assert status == 2
    assert said in err


def test_mistakes_in_the_spec_exit_with_1(dlc: Any, spec: Path) -> None:
    status, _, err = dlc("tune", spec, "--model", "Missing")

    assert status == 1
    assert "E0612" in err
