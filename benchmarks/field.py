"""dlc against the field, side by side in one run: `python benchmarks/field.py`, or some rows: `--rows 'resnet18-*'`.

Each row (a network, a batch, a forward call or a training step) runs in a process of its own. There dlc and its peers are made
from the same weights, their results compared with each other and with float64, and their calls timed in short bursts that
alternate; the figures are medians of the bursts' medians. Peak memory, and the time until a first result, come from fresh
processes, one for each contender. Rows that are run again replace what the report had of them. Needs the extra `[bench]`.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import report
from rows import ROWS, Row

PARTS = ("time", "memory", "compile")


def main() -> None:
    """Runs rows, and writes the report after each."""
    options = _options()
    if options.list:
        print("\n".join(ROWS))
        return
    if options.worker:
        _work(options)
        return
    rows = [row for name, row in ROWS.items() if any(fnmatch.fnmatch(name, p) for p in options.rows)]
    if not rows and "compile" not in options.parts:
        sys.exit(f"no row is called {' '.join(options.rows)}; --list shows them")
    results = report.read(options.out)
    results["machine"] = report.machine(options.threads)
    for row in rows:
        entry = results["rows"].setdefault(row.name, {})
        for part in ("time", "memory"):
            if part in options.parts:
                started = time.monotonic()
                made = _run(row, part, options)
                if made is None:
                    continue
                entry[part] = {**made, "seconds": round(time.monotonic() - started, 1), "commit": report.commit()}
        report.print_row(row, entry)
        report.write(options.out, results)
    if "compile" in options.parts and options.rows == ["*"]:
        import compiling

        results["compile"] = compiling.measure(options.threads)
        report.print_compile(results["compile"])
    report.write(options.out, results)
    print(f"\n{options.out}/field.json, field.md, field.svg")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=["*"], metavar="ROW", help="names or patterns; --list shows them")
    parser.add_argument("--list", action="store_true", help="the names of the rows")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure; default: all")
    parser.add_argument("--peers", nargs="+", default=[], metavar="NAME", help="systems beside dlc; default: all")
    parser.add_argument("--quick", action="store_true", help="times alone, three rounds, no torch.compile")
    parser.add_argument("--rounds", type=int, default=8, help="how often each contender's turn comes")
    parser.add_argument(
        "--compile-budget", type=float, default=300.0, metavar="S", help="seconds for one torch.compile; 0: none"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the report")
    parser.add_argument("--worker", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.parts, options.rounds, options.compile_budget = ["time"], 3, 0.0
    return options


def _run(row: Row, part: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """What a worker measured of a row, None where it failed (it has said why)."""
    with tempfile.TemporaryDirectory(prefix="dlc-bench-") as folder:
        answer = Path(folder, "answer.json")
        command = [sys.executable, __file__, "--worker", part, "--answer", str(answer), "--rows", row.name]
        command += ["--rounds", str(options.rounds), "--compile-budget", str(options.compile_budget)]
        command += ["--threads", str(options.threads), *(["--peers", *options.peers] if options.peers else [])]
        environment = dict(os.environ)
        if row.kind == "avx2":  # OpenVINO limited to the instructions that dlc may use in this row
            environment["ONEDNN_MAX_CPU_ISA"] = "AVX2"
        done = subprocess.run(command, env=environment)
        if done.returncode or not answer.exists():
            print(f"{row.name}: {part} failed", file=sys.stderr)
            return None
        made: dict[str, Any] = json.loads(answer.read_text())
        return made


def _work(options: argparse.Namespace) -> None:
    (name,) = options.rows
    row, folder, only = ROWS[name], options.answer.parent, tuple(options.peers)
    if options.worker == "memory":
        import fresh

        made = fresh.memory(row, folder, options.threads, only)
    else:
        import contest

        made = contest.time_row(
            row,
            folder,
            threads=options.threads,
            rounds=options.rounds,
            compile_budget=options.compile_budget,
            only=only,
        )
    options.answer.write_text(json.dumps(made))


if __name__ == "__main__":
    main()
