"""Bundles: folders with artifacts and all that runs them, for machines on which the compiler was never installed.

    bundle/
        run.py          python bundle/run.py INPUT.npy [-o OUTPUT.npz]
        MODEL.dlc       the artifacts, one or several
        packages/       dlc's runtime, tvm_ffi, msgspec, typing_extensions, ml_dtypes
            dlc/runtime/lib/    TVM's runtime library; for GPUs its CUDA part and NVIDIA's CUDA runtime

Such a machine needs Python and numpy, and for GPU code a driver. Packages with machine code fit one minor version of Python: this
one's, or another whose packages are fetched from the package registry.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution, version
from pathlib import Path, PurePath

import dlc
from dlc.compiler.errors import DlcError
from dlc.runtime.artifact import load_artifact
from dlc.runtime.atomic import write_fault
from dlc.runtime.errors import RuntimeFault

PACKAGES = ("apache-tvm-ffi", "msgspec", "ml_dtypes", "typing_extensions")
"""What the runtime imports beside numpy, by the names of the registry."""

_NEEDLESS = (
    "tvm_ffi/include", "tvm_ffi/3rdparty", "tvm_ffi/src", "tvm_ffi/cython", "tvm_ffi/share", "tvm_ffi/CMakeLists.txt",
    "ml_dtypes/include",
)  # fmt: skip
"""What of these packages is only for building against them."""

_RUNNER = '''\
"""Runs a model of this folder: python run.py INPUT.npy [INPUT.npy ...] [-o OUTPUT.npz] [--model MODEL.dlc]"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "packages"))

import dlc
import numpy as np


def main() -> int:
    """Reads the inputs, runs the model, prints or writes its outputs."""
    parser = argparse.ArgumentParser(description="Run a model of this folder on arrays.")
    parser.add_argument("inputs", nargs="*", type=Path, help="one .npy file for each input; none: say what there are")
    parser.add_argument("-o", "--output", type=Path, help=".npz file to write the outputs to")
    parser.add_argument("--model", type=Path, default=sorted(HERE.glob("*.dlc"))[0], help="the artifact")
    options = parser.parse_args()
    try:
        net = dlc.load(options.model)
        if not options.inputs:
            print(net)
            return 0
        result = net(*(np.load(path) for path in options.inputs))
    except dlc.RuntimeFault as fault:
        print(fault, file=sys.stderr)
        return 1
    outputs = {net.outputs[0].name: result} if isinstance(result, np.ndarray) else dict(result)
    if options.output:
        np.savez(options.output, **outputs)
    for name, array in outputs.items():
        print(name, array.shape, array.dtype, "" if options.output else array)
    return 0


if __name__ == "__main__":
    sys.exit(main())
'''


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written: where, and the bytes of its parts."""

    folder: Path
    artifacts: int
    libraries: int
    packages: int

    @property
    def size(self) -> int:
        """Bytes of the whole folder."""
        return self.artifacts + self.libraries + self.packages


def bundle(artifacts: Sequence[str | Path], folder: str | Path, *, python: str | None = None) -> Bundle:
    """Writes a folder that runs artifacts anywhere. `python` is the version it is for ("3.12"); None: this one's.

    Raises DlcError where the folder holds something already (E0865), or a library or package cannot be had (E0866), RuntimeFault
    where an artifact cannot be read or the folder not be written.
    """
    target, paths = Path(folder), [Path(a) for a in artifacts]
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DlcError.of("E0865", f"{target} is there already, and not empty", help="name a new folder")
    devices = {load_artifact(path, runs_here=False).manifest.program.device for path in paths}
    libraries = _libraries("cuda" in devices)
    packages = target / "packages"
    try:
        packages.mkdir(parents=True)
        if python is None or python == f"{sys.version_info.major}.{sys.version_info.minor}":
            _copy_packages(packages)
        else:
            _fetch_packages(packages, python)
        _copy_runtime(packages / "dlc")
        (packages / "dlc" / "runtime" / "lib").mkdir()
        for library in libraries:
            shutil.copy(library, packages / "dlc" / "runtime" / "lib")
        for path in paths:
            shutil.copy(path, target / path.name)
        (target / "run.py").write_text(_RUNNER)
    except OSError as error:
        raise write_fault(target, error) from error
    held = _size([packages / "dlc" / "runtime" / "lib"])
    return Bundle(target, _size([target / p.name for p in paths]), held, _size([packages]) - held)


def _libraries(with_cuda: bool) -> list[Path]:
    """The libraries that run machine code: TVM's runtime, and what GPUs need besides."""
    from dlc.runtime.library import cuda_libraries, runtime_library

    try:
        return [runtime_library(), *(cuda_libraries() if with_cuda else ())]
    except RuntimeFault as fault:
        raise DlcError.of("E0866", fault.message, help=fault.help) from fault


def _copy_runtime(home: Path) -> None:
    """The parts of dlc that load and run artifacts."""
    source = Path(dlc.__file__).parent
    home.mkdir()
    for name in ("__init__.py", "loading.py", "py.typed"):
        shutil.copy(source / name, home)
    shutil.copytree(source / "runtime", home / "runtime", ignore=shutil.ignore_patterns("__pycache__", "lib"))


def _copy_packages(packages: Path) -> None:
    """The packages as they are installed here."""
    for name in PACKAGES:
        found = distribution(name)
        for file in found.files or ():
            if ".." in file.parts or not _is_needed(file):
                continue
            (packages / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(found.locate_file(file)), packages / file)


def _fetch_packages(packages: Path, python: str) -> None:
    """The packages in the same versions for another version of Python, from the registry."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17, 12)] + ["manylinux2014_x86_64"]
    with tempfile.TemporaryDirectory() as wheels:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", wheels]
        command += ["--python-version", python, "--implementation", "cp"]
        command += [word for platform in platforms for word in ("--platform", platform)]
        done = subprocess.run(
            [*command, *(f"{name}=={version(name)}" for name in PACKAGES)], capture_output=True, text=True
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip gave no reason"]
            raise DlcError.of("E0866", f"the packages for Python {python} cannot be fetched: {said[-1]}")
        for wheel in Path(wheels).glob("*.whl"):
            with zipfile.ZipFile(wheel) as content:
                content.extractall(packages, [name for name in content.namelist() if _is_needed(PurePath(name))])


def _is_needed(file: PurePath) -> bool:
    inside = file.as_posix()
    return not (
        "__pycache__" in file.parts
        or file.suffix in (".pyi", ".pyx", ".pxi")
        or any(inside == part or inside.startswith(part + "/") for part in _NEEDLESS)
    )


def _size(places: Iterable[Path]) -> int:
    files = (f for place in places for f in ([place] if place.is_file() else place.rglob("*")))
    return sum(f.stat().st_size for f in files if f.is_file())
