import numpy as np

from dlc.runtime.data.make_mnist_mini import choose, write
from dlc.runtime.data.sources.base import Split
from dlc.runtime.data.sources.npz import Npz


def test_the_choice_is_the_same_each_time_and_even_over_classes():
    labels = np.random.default_rng(0).integers(0, 10, 5000)
    index = choose(labels, 40)

    assert np.array_equal(index, choose(labels, 40))
    assert np.array_equal(index, np.unique(index))
    assert np.bincount(labels[index]).tolist() == [40] * 10


def test_the_file_holds_the_chosen_samples_and_is_the_same_each_time(tmp_path):
    r = np.random.default_rng(0)
    split = Split(r.integers(0, 256, (8000, 1, 3, 3), np.uint8), r.integers(0, 10, 8000).astype(np.int32))
    for name in ("one.npz", "two.npz"):
        write(split, split, tmp_path / name)
    data = Npz().load(tmp_path / "one.npz")

    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert data.train.images.shape == (6000, 1, 3, 3)
    assert np.array_equal(data.test.images, split.images[choose(split.labels, 100)])
