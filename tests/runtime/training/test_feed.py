"""What a training step is given."""

import numpy as np
import pytest

from dlc.runtime.data.loader import Batch
from dlc.runtime.data.mix import Mix
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.plan import BATCH, Program, TensorSpec
from dlc.runtime.training.feed import Feed, image_input, main_labels

IMAGES, LABELS = np.zeros((3, 1, 2, 2), np.float32), np.array([1, 2, 3], np.int32)
MIX = Mix(np.array([2, 3, 1], np.int32), np.array([0.9, 0.1, 0.5], np.float32))


def program(*names: str) -> Program:
    return Program(tuple(TensorSpec(name, (), "float32") for name in names), (), (), (), (), BATCH)


def test_a_program_gets_what_it_asks_for() -> None:
    feed = Feed(program("picture", "train.labels", "train.rate.0", "train.rate.1", "train.share"), seed=5)

    given = feed(Batch(IMAGES, LABELS, MIX), 7, (0.5, 0.25))

    assert set(given) == {"picture", "train.labels", "train.rate.0", "train.rate.1", "train.share"}
    assert given["picture"] is IMAGES and given["train.share"] is MIX.share
    assert (given["train.rate.0"], given["train.rate.1"]) == (0.5, 0.25)


def test_mixed_samples_count_as_what_most_of_them_is() -> None:
    assert main_labels(Batch(IMAGES, LABELS)) is LABELS
    assert main_labels(Batch(IMAGES, LABELS, MIX)).tolist() == [1, 3, 3]


def test_a_network_of_two_inputs_cannot_be_fed() -> None:
    with pytest.raises(RuntimeFault, match="has 2: a, b"):
        image_input(program("a", "train.labels", "b"))
