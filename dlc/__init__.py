"""dlc: describe a neural network and its training in one short text file, compile it, run it.

    import dlc

    net = dlc.compile("specs/lenet5.dlspec", weights="runs/lenet5/best.safetensors")
    net.save("lenet5.dlc")
    scores = dlc.load("lenet5.dlc")(images)

Names are imported on first use: a process that only loads an artifact never imports the compiler.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlc.api import check, compile, train
    from dlc.compiler.errors import DlcError, SpecWarning
    from dlc.loading import load
    from dlc.measuring import evaluate
    from dlc.runtime.errors import RuntimeFault
    from dlc.runtime.session import Session

__version__ = "0.1.0"

_HOME = {
    "DlcError": "dlc.compiler.errors",
    "RuntimeFault": "dlc.runtime.errors",
    "SpecWarning": "dlc.compiler.errors",
    "Session": "dlc.runtime.session",
    "check": "dlc.api",
    "compile": "dlc.api",
    "evaluate": "dlc.measuring",
    "load": "dlc.loading",
    "train": "dlc.api",
}

__all__ = [
    "DlcError",
    "RuntimeFault",
    "Session",
    "SpecWarning",
    "__version__",
    "check",
    "compile",
    "evaluate",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'dlc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
