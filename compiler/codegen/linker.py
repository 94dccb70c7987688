"""The linker of a target, found without importing the compiler: `dlc targets` asks for it too."""

from __future__ import annotations

import importlib.util
import shutil
import sys

from dlc.compiler.codegen.target import CpuTarget, host_triple
from dlc.compiler.errors import DlcError


def linker(target: CpuTarget) -> list[str]:
    """The command that links for a target: a compiler driver or linker of this machine, else the package ziglang.

    Raises DlcError where there is none.
    """
    machine = target.mtriple.split("-")[0]
    if machine == host_triple().split("-")[0]:
        for name in ("gcc", "cc", "clang", "ld"):
            if found := shutil.which(name):
                return [found]
    else:
        for name in (f"{machine}-linux-gnu-gcc", f"{machine}-linux-gnu-ld", "ld.lld"):
            if found := shutil.which(name):
                return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu"]
    raise DlcError.of(
        "E0852",
        f"no linker for {machine} was found (gcc, cc, clang, ld or the Python package ziglang)",
        help="pip install ziglang",
    )
