import threading

import numpy as np
import pytest

from dlc.runtime.data.loader import Loader
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.data.sources.base import Split
from dlc.runtime.data.streams import bits, permutation
from dlc.runtime.data.transforms.rotate import Rotate
from dlc.runtime.data.transforms.shift import Shift
from dlc.runtime.errors import RuntimeFault

COUNT, BATCH = 103, 10
# The first pixel of an image tells its number.
IMAGES = np.zeros((COUNT, 1, 6, 6), np.uint8)
IMAGES[:, 0, :, :] = np.arange(COUNT)[:, None, None]
PLAIN = Preprocessing(1, 6, 6, (0.0,), (1 / 255,))


def loader(**settings):
    split = Split(IMAGES, np.arange(COUNT, dtype=np.int32))
    return Loader(split, PLAIN, **{"batch": BATCH, "seed": 3} | settings)


def test_an_epoch_visits_every_sample_once_but_for_the_last_few():
    batches = list(loader().batches(0, 20))
    first, second = (np.concatenate([b.labels for b in part]) for part in (batches[:10], batches[10:]))

    assert len(set(first)) == len(set(second)) == 100
    assert list(first) != list(second)
    assert set(first) != set(second)
    for b in batches:
        assert b.images.dtype == np.float32 and b.images.ctypes.data % 64 == 0
        assert b.images[:, 0, 0, 0] == pytest.approx(b.labels)


def test_any_step_can_be_made_on_its_own():
    augment = (Shift(2), Rotate(20))
    made = list(loader(augment=augment).batches(0, 25))

    for step in (24, 0, 13, 10, 9):
        alone = loader(augment=augment).at(step)
        assert np.array_equal(alone.images, made[step].images)
        assert np.array_equal(alone.labels, made[step].labels)
    late = list(loader(augment=augment).batches(17, 20))
    assert np.array_equal(late[2].images, made[19].images)


def test_another_seed_gives_another_order():
    assert list(loader(seed=4).at(0).labels) != list(loader().at(0).labels)


def test_orders_and_bits_never_change_from_release_to_release():
    assert permutation(3, 1, 8).tolist() == [4, 6, 3, 7, 2, 1, 0, 5]
    assert bits(2, 1, 2, 3, 2).tolist() == [17470626495656902258, 2656805835502951731]


def test_a_fault_in_the_thread_reaches_the_caller():
    class Broken(Shift):
        def places(self, draws, source):
            raise RuntimeFault("R0000", "broken")

    with pytest.raises(RuntimeFault, match="broken"):
        next(loader(augment=(Broken(1),)).batches(0, 5))


def test_closing_early_ends_the_thread():
    before = threading.active_count()
    batches = loader().batches(0, 10_000)
    next(batches)
    batches.close()

    assert threading.active_count() == before


def test_fewer_samples_than_a_batch_are_refused():
    with pytest.raises(RuntimeFault, match="a batch takes 104 samples, but the training part has 103"):
        loader(batch=104)
