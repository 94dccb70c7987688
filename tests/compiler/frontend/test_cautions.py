"""Every .dlspec below tests/golden/warnings is right, but hardly meant; what is said about it stands beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import dlc
from dlc.api import recipe_of, vocabulary
from dlc.compiler.frontend import check

WARNINGS = Path(__file__).resolve().parents[2] / "golden" / "warnings"
SPECS = sorted(WARNINGS.glob("*.dlspec"))
SHIPPED = sorted((Path(dlc.__file__).parent / "specs").glob("*.dlspec"))


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_a_warning_is_explained(
    path: Path, golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)

    found = check(Path(path.name), vocabulary()).warnings

    assert all(d.severity == "warning" for d in found)
    golden("\n\n".join(d.render() for d in found), f"warnings/{path.stem}.txt")


def test_every_warning_has_its_example() -> None:
    said = "".join(path.with_suffix(".txt").read_text(encoding="utf-8") for path in SPECS)

    assert all(f"warning[W010{n}]" in said for n in range(1, 9))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_specs_deserve_no_warning(path: Path) -> None:
    assert not check(path, vocabulary()).warnings


def test_from_python_a_warning_is_pythons() -> None:
    with pytest.warns(dlc.SpecWarning, match="starts equal"):
        recipe_of(WARNINGS / "zeros.dlspec")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "dlc", *arguments], capture_output=True, text=True)


def test_the_command_line_warns_and_goes_on_unless_it_is_strict() -> None:
    zeros = str(WARNINGS / "zeros.dlspec")

    plain, strict = command("check", zeros, "--json"), command("check", zeros, "--strict")

    assert (plain.returncode, strict.returncode) == (0, 1)
    assert "warning[W0101]" in plain.stderr and "warning[W0101]" in strict.stderr
    (found,) = json.loads(plain.stdout)["diagnostics"]
    assert (found["code"], found["severity"], found["line"]) == ("W0101", "warning", 15)


def test_compiling_tells_the_warnings_in_json_too(tmp_path: Path) -> None:
    done = command("compile", str(WARNINGS / "zeros.dlspec"), "-o", str(tmp_path / "m.dlc"), "--json")

    assert done.returncode == 0 and done.stderr.count("warning[W0101]") == 1
    assert [d["code"] for d in json.loads(done.stdout.splitlines()[-1])["warnings"]] == ["W0101"]
