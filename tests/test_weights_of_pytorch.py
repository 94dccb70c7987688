"""Weight files as PyTorch writes them are taken by every command that takes weights."""

from pathlib import Path

import numpy as np

from dlc import api
from dlc.compiler.network import Network

SPECS = Path(__file__).parent.parent / "specs"


def network() -> Network:
    return api.one_network(SPECS / "googlenet.dlspec", model="GoogLeNet")


def test_inference_leaves_out_the_heads_and_the_counts_of_batches_but_no_unknown_name() -> None:
    googlenet = network()
    names = googlenet.parameter_specs()
    counts = [n.replace("running_mean", "num_batches_tracked") for n in names if n.endswith("running_mean")]

    kept = googlenet.inference_weights(dict.fromkeys([*names, *counts, "stranger.weight"], np.zeros(())))

    assert counts
    assert set(kept) == {*googlenet.parameter_specs(training=False), "stranger.weight"}
    assert any(name.startswith("aux1.") for name in names.keys() - kept.keys())
