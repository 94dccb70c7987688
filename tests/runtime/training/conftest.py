import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).with_name("linear_run.py")


@pytest.fixture(scope="session")
def linear() -> ModuleType:
    """The stand-in for compiled programs."""
    if "linear_run" not in sys.modules:
        spec = importlib.util.spec_from_file_location("linear_run", SCRIPT)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["linear_run"] = module
        spec.loader.exec_module(module)
    return sys.modules["linear_run"]


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written, but not flushed to the disk: hundreds of checkpoints would each wait for it."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
