"""docs/errors.md lists every code that the compiler can raise, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [p for folder in ("compiler", "runtime", "dlc") for p in sorted((ROOT / folder).glob("**/*.py"))]


def test_every_code_is_documented_and_every_documented_code_exists() -> None:
    raised = {code for path in SOURCES for code in re.findall(r'"([EW]0\d{3})"', path.read_text(encoding="utf-8"))}
    documented = re.findall(r"^\| ([EW]0\d{3}) \|", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.M)

    assert set(documented) == raised
    assert documented == sorted(set(documented))
