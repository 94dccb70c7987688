"""Fresh processes: what one contender alone needs in memory, and how long it takes from its start to a first result.

Memory is the process's peak (VmHWM) from the end of its imports on, less what it held then. It counts everything that the
contender needs to run: weights, activations, gradients, code, caches. `torch.compile` is left out: its compiler would be
measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rows import ROWS, Row, family

RUNS = 3
"""Calls of each contender; the second already has all the memory that it will need."""

TRAINERS = ("dlc", "PyTorch", "PyTorch channels last")


def memory(row: Row, folder: Path, threads: int, only: tuple[str, ...]) -> dict[str, Any]:
    """The peak memory and the seconds to the first result of every contender of a row, each in a process of its own.

    dlc's training step is compiled once before, so that, as everywhere after a first run, it comes out of dlc's cache.
    """
    import forward
    import training

    if row.kind == "train":
        training.prepare(row.network, folder)
        names: tuple[str, ...] = TRAINERS
        _alone(row, "dlc", folder, threads)
    elif row.kind == "avx2":
        return {"peaks": {}}
    else:
        names = ("dlc", *(p for p in forward.PEERS if family(p) != "ncnn" or row.batch == 1))
        forward.prepare(row.network, row.batch, folder, names=names)
    names = tuple(n for n in names if n == "dlc" or not only or family(n) in only)
    return {"peaks": {name: _alone(row, name, folder, threads) for name in names}}


def _alone(row: Row, name: str, folder: Path, threads: int) -> dict[str, float]:
    command = [sys.executable, __file__, row.name, name, str(folder), str(threads)]
    started = time.time()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    figures["first_s"] = figures.pop("first_at") - started
    return figures


def _kilobytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def _import(name: str, row: Row) -> None:
    """Everything that a contender imports, so that its memory can be told from what it imports (numpy in any case)."""
    match name:
        case "dlc":
            from dlc.runtime.library import load_runtime

            load_runtime()
            if row.kind == "train":
                import dlc.compiler.pipeline
                import dlc.training  # noqa: F401
        case "PyTorch" | "PyTorch channels last":
            import modules  # noqa: F401
        case "ONNX Runtime":
            import onnxruntime  # noqa: F401
        case "OpenVINO":
            import openvino  # noqa: F401
        case "ncnn" | "ncnn fp32":
            import ncnn  # noqa: F401


def main() -> None:
    """The process of one contender: prints its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row")
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("threads", type=int)
    options = parser.parse_args()
    row = ROWS[options.row]
    _import(options.name, row)
    imported = _kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    if row.kind == "train":
        import training

        if options.name == "dlc":
            call = training.ours(row.network, row.batch, options.folder, options.threads)
        else:
            last = options.name.endswith("last")
            call = training.pytorch(row.network, row.batch, options.folder, options.threads, last=last)
    else:
        import forward

        call = forward.contender(options.name, row.network, row.batch, options.folder, options.threads)
    call()
    first = time.time()
    for _ in range(RUNS - 1):
        call()
    peak = _kilobytes("VmHWM")
    print(json.dumps({"own_mb": (peak - imported) / 1e3, "import_mb": imported / 1e3, "first_at": first}))
    sys.stdout.flush()
    os._exit(0)  # some peers' threads take long to end


if __name__ == "__main__":
    main()
