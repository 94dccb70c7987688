"""The structure's promises: imports point one way, and the wheel carries what the links point to."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_import_contract_holds() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_carries_compiler_grammar_specs_and_data(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)

    (wheel,) = tmp_path.glob("dlc-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    carried = {
        "dlc/compiler/codegen/target.py", "dlc/runtime/session.py", "dlc/grammar/dlspec.json", "dlc/py.typed",
        "dlc/specs/lenet5.dlspec", "dlc/specs/blocks/residual.dlspec", "dlc/runtime/data/mnist_mini.npz",
    }  # fmt: skip
    assert carried <= names, carried - names


def test_importing_dlc_loads_neither_compiler_nor_numpy() -> None:
    program = (
        "import sys, dlc; print([m for m in ('numpy', 'tvm', 'lark', 'click', 'dlc.compiler') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
