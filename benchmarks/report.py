"""The report: figures kept as JSON, printed, and written as tables in Markdown and a bar chart in SVG."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import chart
from rows import COMPILE, ERROR, MEMORY, ROWS, Goal, Row, family, goals, in_group

PACKAGES = ("dlc", "apache-tvm", "torch", "torchvision", "onnxruntime", "openvino", "ncnn", "pnnx", "numpy")


def read(folder: Path) -> dict[str, Any]:
    """The figures of earlier runs, or none."""
    path = folder / "field.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results.setdefault("rows", {})
    return results


def machine(threads: int) -> dict[str, Any]:
    """What figures depend on."""
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    return {
        "processor": name,
        "threads": threads,
        "python": platform.python_version(),
        "packages": {p: v for p in PACKAGES if (v := _version(p))},
        "date": datetime.date.today().isoformat(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def commit() -> str:
    """The commit that was measured, with a + where files differ from it."""
    here = Path(__file__).parent
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def best(times: Mapping[str, Any], group: str) -> tuple[str, float] | None:
    """The fastest contender of a group and its median, None where none ran."""
    found = [(figures["median"], name) for name, figures in times.items() if in_group(name, group)]
    return (min(found)[1], min(found)[0]) if found else None


def verdicts(row: Row, entry: Mapping[str, Any]) -> Iterator[tuple[str, float, float, bool]]:
    """For each goal of a row: what it is about, the goal, what was measured, and whether that is enough."""
    times = entry.get("time", {}).get("times", {})
    for goal in goals(row):
        ratio = _ratio(times, goal)
        if ratio is not None:
            yield f"times faster than the best of {goal.group}", goal.times, ratio, ratio >= goal.times
    if ours := entry.get("time", {}).get("errors", {}).get("dlc"):
        yield "relative error", ERROR, ours, ours <= ERROR
    if row.kind == "train" and (share := memory_share(entry)) is not None:
        yield "share of PyTorch's peak memory", MEMORY, share, share <= MEMORY


def _ratio(times: Mapping[str, Any], goal: Goal) -> float | None:
    found = best(times, goal.group)
    return None if found is None or "dlc" not in times else found[1] / times["dlc"]["median"]


def memory_share(entry: Mapping[str, Any]) -> float | None:
    """Our peak memory over that of PyTorch's leaner layout, both above what their imports take."""
    found = entry.get("memory", {}).get("peaks", {})
    theirs = [p["own_mb"] for name, p in found.items() if family(name) == "PyTorch"]
    return found["dlc"]["own_mb"] / min(theirs) if "dlc" in found and theirs else None


def print_row(row: Row, entry: Mapping[str, Any]) -> None:
    """A row's figures, with the ratios to dlc and the goals."""
    print(f"\n{row.name}: {row.title}")
    measured = entry.get("time", {})
    times = measured.get("times", {})
    if "dlc" in times:
        ours = times["dlc"]["median"]
        for name, f in sorted(times.items(), key=lambda item: item[1]["median"]):
            error = measured.get("errors", {}).get(name)
            print(
                f"  {name:<28} {f['median']:10.4f} ms  {f['median'] / ours:6.2f} x dlc   "
                f"{f['low']:.4f} to {f['high']:.4f}" + (f"   error {error:.0e}" if error is not None else "")
            )
    for name, note in measured.get("notes", {}).items():
        print(f"  {name}: {note}")
    if measured.get("busy"):
        print(f"  WARNING: other processes took {measured['others']:.0%} of the machine meanwhile")
    for name, p in entry.get("memory", {}).get("peaks", {}).items():
        print(
            f"  {name:<28} {p['own_mb']:8.0f} MB above {p['import_mb']:.0f} MB of imports; "
            f"first result after {p['first_s']:.2f} s"
        )
    for what, goal, value, fine in verdicts(row, entry):
        print(f"  {'ok  ' if fine else 'MISS'} {what}: {value:.3g}, goal {goal:.3g}")


def print_compile(figures: Mapping[str, Any]) -> None:
    """Seconds of `dlc compile` and their goals."""
    for name, f in figures.items():
        print(f"\n{name}: " + ", ".join(f"{k} {v:.3g}" for k, v in f.items()))


def write(folder: Path, results: Mapping[str, Any]) -> None:
    """Writes field.json, field.md and field.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "field.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "field.md").write_text(markdown(results))
    (folder / "field.svg").write_text(chart.draw(results))


def markdown(results: Mapping[str, Any]) -> str:
    """All figures as tables."""
    m = results["machine"]
    packages = ", ".join(f"{p} {v}" for p, v in m["packages"].items())
    parts = [f"{m['processor']}, {m['threads']} threads, Python {m['python']}, {m['date']}; {packages}."]
    parts += [_forward_table(results, batch) for batch in (1, 8)]
    parts += [_train_table(results), _avx2_table(results), _memory_table(results), _compile_table(results)]
    busy = [n for n, e in results["rows"].items() if e.get("time", {}).get("busy")]
    if busy:
        parts.append("Taken while others used the machine: " + ", ".join(busy) + ".")
    return "\n\n".join(p for p in parts if p) + "\n"


def _rows(results: Mapping[str, Any], kind: str, batch: int | None = None) -> list[tuple[Row, Mapping[str, Any]]]:
    return [
        (row, results["rows"][name])
        for name, row in ROWS.items()
        if row.kind == kind
        and (batch is None or row.batch == batch)
        and "dlc" in results["rows"].get(name, {}).get("time", {}).get("times", {})
    ]


def _table(head: list[str], body: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(b) + " |" for b in body)]
    return "\n".join(lines) if body else ""


def _milliseconds(value: float) -> str:
    return f"{value:.4f}" if value < 0.1 else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _judged(ratio: float | None, goal: Goal | None) -> str:
    if ratio is None:
        return ""
    if goal is None:
        return f"{ratio:.2f}"
    return f"{ratio:.2f} of {goal.times:g}: " + ("ok" if ratio >= goal.times else "**missed**")


def _best_of(times: Mapping[str, Any], system: str, plain: str) -> str:
    """The best variant of a system, and which it is; `plain` says what the one without a name of its own is."""
    found = best(times, system)
    if found is None:
        return ""
    name = found[0].removeprefix(system).strip() or plain
    return f"{_milliseconds(found[1])} ({name})"


def _forward_table(results: Mapping[str, Any], batch: int) -> str:
    body = []
    for row, entry in _rows(results, "forward", batch):
        times, measured = entry["time"]["times"], entry["time"]
        ours = times["dlc"]
        cells = [row.network.name, _milliseconds(ours["median"])]
        cells.append(f"{_milliseconds(ours['low'])}-{_milliseconds(ours['high'])}")
        cells.append(_best_of(times, "PyTorch", "eager"))
        for name in ("ONNX Runtime", "OpenVINO"):
            cells.append(_milliseconds(times[name]["median"]) if name in times else "")
        if batch == 1:
            cells.append(_best_of(times, "ncnn", "16 bits"))
        cells += [_judged(_ratio(times, goal), goal) for goal in goals(row)]
        body.append([*cells, f"{measured['errors']['dlc']:.0e}"])
    head = [f"forward, batch of {batch}, ms", "dlc", "least to most of a burst", "PyTorch, its best", "ONNX Runtime"]
    head += ["OpenVINO"]
    head += (
        ["ncnn", "times faster than the best of the three", "than ncnn"] if batch == 1 else ["times faster than all"]
    )
    return _table([*head, "error"], body)


def _train_table(results: Mapping[str, Any]) -> str:
    body = []
    for row, entry in _rows(results, "train"):
        times = entry["time"]["times"]
        ours, (goal,), share = times["dlc"], goals(row), memory_share(entry)
        cells = [row.title, _milliseconds(ours["median"])]
        cells += [f"{_milliseconds(ours['low'])}-{_milliseconds(ours['high'])}", _best_of(times, "PyTorch", "eager")]
        cells.append(_judged(_ratio(times, goal), goal))
        judged = "" if share is None else f"{share:.2f} of {MEMORY}: " + ("ok" if share <= MEMORY else "**missed**")
        body.append([*cells, judged])
    head = [
        "training step, ms",
        "dlc",
        "least to most of a burst",
        "PyTorch, its best",
        "times faster",
        "memory, share",
    ]
    return _table(head, body)


def _avx2_table(results: Mapping[str, Any]) -> str:
    body = [
        [
            row.title,
            _milliseconds(e["time"]["times"]["dlc"]["median"]),
            _milliseconds(e["time"]["times"]["OpenVINO"]["median"]),
            f"{e['time']['times']['OpenVINO']['median'] / e['time']['times']['dlc']['median']:.2f}",
        ]
        for row, e in _rows(results, "avx2")
        if "OpenVINO" in e["time"]["times"]
    ]
    return _table(["forward with AVX2 alone, ms", "dlc (x86-64-v3)", "OpenVINO (AVX2)", "times faster"], body)


def _memory_table(results: Mapping[str, Any]) -> str:
    names = ("dlc", "PyTorch", "PyTorch channels last", "ONNX Runtime", "OpenVINO", "ncnn", "ncnn fp32")
    body = []
    for name, row in ROWS.items():
        peaks = results["rows"].get(name, {}).get("memory", {}).get("peaks", {})
        if peaks:
            cells = [f"{peaks[n]['own_mb']:.0f}, {peaks[n]['first_s']:.2f} s" if n in peaks else "" for n in names]
            body.append([f"{row.title}, {row.kind}", *cells])
    return _table(["peak MB above the imports, start of the process to first result", *names], body)


def _compile_table(results: Mapping[str, Any]) -> str:
    body = []
    for name, f in results.get("compile", {}).items():
        cells = [name, f"{f['cold']:.2f}", f"{f['cached']:.2f}"]
        goal = ", ".join(
            f"{k} within {s:g}: " + ("ok" if f[k] <= s else "**missed**")
            for k, s in COMPILE.items()
            if "ResNet-50" in name
        )
        body.append([*cells, goal])
    return _table(["`dlc compile`, seconds of the process", "cold", "from the cache", "goal"], body)
