"""Faults: how they read, and that the list of their codes is complete."""

from __future__ import annotations

import re
from pathlib import Path

from dlc.runtime.errors import RuntimeFault

ROOT = Path(__file__).parents[2]


def test_a_fault_reads_like_a_diagnostic() -> None:
    fault = RuntimeFault("R0204", "expected [N, 10], got [10]", help="add a batch dimension")

    assert str(fault) == "error[R0204]: expected [N, 10], got [10]\n = help: add a batch dimension"
    assert (fault.code, fault.message, fault.help) == ("R0204", "expected [N, 10], got [10]", "add a batch dimension")
    assert str(RuntimeFault("R0204", "no advice")) == "error[R0204]: no advice"


def test_every_code_is_documented_and_every_documented_code_exists() -> None:
    sources = [p for folder in ("runtime", "compiler") for p in (ROOT / folder).rglob("*.py")] + list(
        (ROOT / "dlc").rglob("*.py")
    )
    raised = {code for path in sources for code in re.findall(r'"(R\d{4})"', path.read_text(encoding="utf-8"))}
    documented = set(
        re.findall(r"^\| (R\d{4}) \|", (ROOT / "docs/errors-runtime.md").read_text(encoding="utf-8"), re.MULTILINE)
    )

    assert raised == documented
