"""Loading in a fresh process: nothing of the compiler, nothing heavy, and friends with what is loaded later."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dlc.runtime.artifact import Artifact, save_artifact

LOAD = """
import json, sys
import numpy as np
{before}
import dlc
net = dlc.load(sys.argv[1])
result = net(np.ones((2, 3, 8, 16), np.float32), np.ones((2, 384), np.float32))
again = dlc.load(sys.argv[1])(np.ones((2, 3, 8, 16), np.float32), np.ones((2, 384), np.float32))
assert np.array_equal(result["sum"], again["sum"])
modules = sorted({{name.partition(".")[0] for name in sys.modules}})
{after}
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps(dict(modules=modules, megabytes=int(status["VmHWM"].split()[0]) / 1024, sum=float(result["sum"].sum()))))
"""


@pytest.fixture
def path(artifact: Artifact, tmp_path: Path) -> Path:
    path = tmp_path / "pair.dlc"
    save_artifact(path, artifact)
    return path


def run(path: Path, before: str = "", after: str = "") -> dict[str, object]:
    script = LOAD.format(before=textwrap.dedent(before), after=textwrap.dedent(after))
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_a_fresh_process_loads_no_compiler_and_no_torch(path: Path) -> None:
    result = run(path)

    assert not {"tvm", "torch", "cuda", "lark", "click", "rich", "PIL"} & set(result["modules"])  # type: ignore[call-overload]
    assert result["megabytes"] < 100  # type: ignore[operator]


def test_torch_can_be_imported_and_used_before_and_after(path: Path) -> None:
    use = """
        import torch
        values = torch.ones(2, 3, 8, 16), torch.ones(2, 384)
    """
    check = "assert np.array_equal(net(*values)['sum'], result['sum'])"

    want = run(path)["sum"]

    assert run(path, before=use, after=check)["sum"] == want
    assert run(path, after=textwrap.dedent(use) + check)["sum"] == want


def test_the_compiler_can_be_imported_and_used_before_and_after(path: Path) -> None:
    use = """
        import tvm
        from tvm import te
        a = te.placeholder((4,), "float32", name="a")
        made = te.create_prim_func([a, te.compute((4,), lambda i: a[i] + a[i], name="b")])
        kernel = tvm.compile(made, tvm.target.Target({"kind": "llvm", "mcpu": "generic"}))["main"]
        x, y = tvm.runtime.tensor(np.ones(4, np.float32)), tvm.runtime.tensor(np.zeros(4, np.float32))
        kernel(x, y)
        assert y.numpy().tolist() == [2.0] * 4
    """
    want = run(path)["sum"]

    assert run(path, before=use)["sum"] == want
    assert run(path, after=use)["sum"] == want
