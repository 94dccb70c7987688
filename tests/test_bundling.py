"""Bundles: a folder runs a model where neither dlc nor the compiler is installed."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

import dlc
from dlc.api import compile_to_file
from dlc.bundling import bundle
from dlc.runtime.device import cuda_device

LENET = Path(dlc.__file__).parent / "specs" / "lenet5.dlspec"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with numpy and nothing else."""
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, with_pip=False, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    numpy = Path(np.__file__).parent
    for package in (numpy, numpy.with_name("numpy.libs")):
        if package.exists():
            (site / package.name).symlink_to(package)
    return home / "bin" / "python"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_to_file(LENET, tmp_path_factory.mktemp("made") / "lenet.dlc", model="LeNet5").artifact


def run(python: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, "-I", *map(str, arguments)], capture_output=True, text=True, cwd="/")


def test_a_bundle_gives_the_same_numbers_without_dlc_and_compiler(artifact: Path, bare: Path, tmp_path: Path) -> None:
    made = bundle([artifact], tmp_path / "bundle")
    images = np.random.default_rng(0).standard_normal((3, 1, 28, 28), np.float32)
    images = np.pad(images, [(0, 0), (0, 0), (2, 2), (2, 2)])
    np.save(tmp_path / "images.npy", images)
    assert run(bare, "-c", "import dlc").returncode and run(bare, "-c", "import tvm").returncode

    done = run(bare, made.folder / "run.py", tmp_path / "images.npy", "-o", tmp_path / "out.npz")

    assert done.returncode == 0, done.stderr
    net = dlc.load(artifact)
    (name,) = (spec.name for spec in net.outputs)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")[name], net(images))
    assert made.size < 16 * 2**20


def test_faults_of_a_bundle_are_messages(artifact: Path, bare: Path, tmp_path: Path) -> None:
    made = bundle([artifact], tmp_path / "bundle")
    np.save(tmp_path / "images.npy", np.zeros((1, 3, 7, 7), np.float32))

    done = run(bare, made.folder / "run.py", tmp_path / "images.npy")

    assert done.returncode == 1
    assert done.stderr.startswith("error[R0") and "Traceback" not in done.stderr


def test_a_bundle_for_gpus_holds_the_cuda_runtime_and_names_the_missing_driver(bare: Path, tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.nvfatbin")
    artifact = compile_to_file(LENET, tmp_path / "lenet.dlc", model="LeNet5", target="cuda:sm_90").artifact
    made = bundle([artifact], tmp_path / "bundle")
    held = {f.name for f in (made.folder / "packages" / "dlc" / "runtime" / "lib").iterdir()}

    assert held == {"libtvm_runtime.so", "libtvm_runtime_cuda.so", "libcudart.so.13"}
    assert made.size < 64 * 2**20
    if not cuda_device().available:
        done = run(bare, made.folder / "run.py")
        assert done.returncode == 1
        assert "R0108" in done.stderr and "compiled for cuda" in done.stderr


def test_a_folder_with_files_is_left_alone(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(dlc.DlcError, match="E0865"):
        bundle([artifact], tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["notes.txt"]


def test_a_version_of_python_without_packages_is_an_error(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([sys.executable], 1, "", "ERROR: No matching distribution found for it\n")

    monkeypatch.setattr("dlc.bundling.subprocess.run", refused)

    with pytest.raises(dlc.DlcError, match=r"E0866.*Python 3\.99"):
        bundle([artifact], tmp_path / "bundle", python="3.99")
