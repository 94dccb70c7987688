"""The golden harness: texts compared with files below tests/golden; `pytest --update-golden` writes them anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

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
