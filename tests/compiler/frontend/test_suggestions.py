"""Did-you-mean finds what was meant, and is silent where nothing is near."""

from __future__ import annotations

import pytest

from dlc.api import vocabulary
from dlc.compiler.frontend.functions import BUILTINS
from dlc.compiler.frontend.suggestions import ELSEWHERE, closest, listing, mistakes

LAYERS = ["avg_pool", "batch_norm", "concat", "conv", "dropout", "flatten", "linear", "max_pool", "relu", "residual"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("con", "conv"), ("cnov", "conv"), ("Conv", "conv"), ("batchnorm", "batch_norm"), ("BatchNorm", "batch_norm"),
        ("maxpool", "max_pool"), ("dense", "linear"), ("conv2d", "conv"), ("relue", "relu"), ("flaten", "flatten"),
        ("concatenate", "concat"), ("drop", "dropout"), ("bn", "batch_norm"), ("resiudal", "residual"),
        ("transformer", None), ("q", None), ("xyzzy", None),
    ],
)  # fmt: skip
def test_the_nearest_name_is_found(word: str, meant: str | None) -> None:
    assert closest(word, LAYERS) == meant


def test_neighbours_swapped_are_one_mistake() -> None:
    assert mistakes("conv", "cnov") == 1
    assert mistakes("", "abc") == 3


def test_names_are_listed_in_words() -> None:
    assert listing(["a"]) == "`a`"
    assert listing(["a", "b", "c"]) == "`a`, `b` and `c`"
    assert listing("abcd", 2) == "`a`, `b`, …"


def test_names_of_other_systems_lead_to_names_of_this_one() -> None:
    words = vocabulary()
    here = {name for _, catalog in words.catalogs for name in catalog} | set(BUILTINS)
    parameters = {
        "pad",
        "stride",
        "kernel",
        "channels",
        "features",
        "bias",
        "dilation",
        "groups",
        "lr",
        "in",
        "identity",
    }
    settings = {"batch", "data", "loss", "regularize", "stop", "schedule", "init", "metrics", "model", "augment", "validate",
                "normalize", "resize", "optimizer", "epochs", "seed"}  # fmt: skip

    assert set(ELSEWHERE.values()) <= here | parameters | settings
