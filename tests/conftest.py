"""The golden harness: texts compared with files below tests/golden; `pytest --update-golden` writes them anew."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dlc.runtime.errors import RuntimeFault

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what the tests got to tests/golden")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing comes out of the user's cache folder, and nothing gets there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str | Path], None]:
    """`golden(text, "folder/name.txt")`: the text must be what the file below tests/golden holds."""
    update: bool = request.config.getoption("--update-golden")

    def compare(text: str, name: str | Path) -> None:
        path = GOLDEN / name
        if not text.endswith("\n"):
            text += "\n"
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"no golden file {path}: make it with `pytest --update-golden`, then read it")

        assert text == path.read_text(encoding="utf-8"), f"differs from {path}; if right, run `pytest --update-golden`"

    return compare


@pytest.fixture(scope="session")
def torchvision_models() -> ModuleType:
    """torchvision's Python definitions. Its compiled operators do not load beside every build of torch, and no network
    here needs them: they are declared, so that the import finds them."""
    import torch

    try:
        import torchvision.models as models
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")  # keeps what it declares for as long as it lives
        for name in ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
            library.define(f"{name}(Tensor x) -> Tensor")
            if not name.endswith("nms"):
                library.define(f"_{name}_backward(Tensor x) -> Tensor")
        import torchvision.models as models

        models.declared = library
    return models


class HostGpu:
    """A device whose memory is the process's own, and which runs kernels for processors. It remembers what it was asked for."""

    kind, stream = 1, 0

    def __init__(self, limit: int = 2**30) -> None:
        self.held: dict[int, np.ndarray] = {}
        self.limit = limit
        self.log: list[str] = []

    def allocate(self, size: int) -> int:
        if sum(a.nbytes for a in self.held.values()) + size > self.limit:
            raise RuntimeFault("R0207", "more than the GPU has")
        raw = np.full(size + 64, 0x7F, np.uint8)  # what nobody writes is no zero
        address = raw.ctypes.data + -raw.ctypes.data % 64
        self.held[address] = raw
        return int(address)

    def free(self, address: int) -> None:
        del self.held[address]

    allocate_host, free_host = allocate, free

    def upload(self, to: int, source: int, size: int) -> None:
        self.log.append("upload")
        ctypes.memmove(to, source, size)

    def download(self, to: int, source: int, size: int) -> None:
        self.log.append("download")
        ctypes.memmove(to, source, size)

    def copy(self, to: int, source: int, size: int) -> None:
        self.log.append("copy")
        ctypes.memmove(to, source, size)

    def upload_aside(self, to: int, source: int, size: int) -> None:
        self.log.append("upload aside")
        ctypes.memmove(to, source, size)

    def mark_aside(self) -> Any:
        return "all copied"

    def wait_for(self, event: Any) -> None:
        assert event == "all copied"
        self.log.append("wait")

    def synchronize(self) -> None:
        pass

    def finish(self) -> None:
        self.log.append("finish")

    def run(self, work: Callable[[], None]) -> None:
        self.log.append("run")
        work()

    def capture(self, work: Callable[[], None]) -> Any:
        self.log.append("capture")
        return work

    def launch(self, graph: Any) -> None:
        self.log.append("launch")
        graph()

    def destroy(self, graph: Any) -> None:
        self.log.append("destroy")

    def times(self, work: Sequence[Callable[[], None]]) -> list[float]:
        for piece in work:
            piece()
        return [1e-3] * len(work)


@pytest.fixture(scope="session")
def stand_in() -> type[HostGpu]:
    """What stands in for a GPU: `stand_in(limit)` has so many bytes of memory."""
    return HostGpu
