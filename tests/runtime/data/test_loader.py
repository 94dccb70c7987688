import threading

import numpy as np
import pytest

from dlc.data import compiled_warps
from dlc.runtime.data.loader import Loader
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.data.sources.base import Split
from dlc.runtime.data.streams import bits, permutation
from dlc.runtime.data.transforms.crop import Crop
from dlc.runtime.data.transforms.cutout import Cutout
from dlc.runtime.data.transforms.elastic import Elastic
from dlc.runtime.data.transforms.flip import Flip
from dlc.runtime.data.transforms.mixup import Mixup
from dlc.runtime.data.transforms.rotate import Rotate
from dlc.runtime.data.transforms.shift import Shift
from dlc.runtime.errors import RuntimeFault

R = np.random.default_rng(0)
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


CHAIN = (Shift(2), Rotate(20), Elastic(5.0, 2.0), Cutout(2), Mixup())


@pytest.mark.parametrize("augment", [(), CHAIN[:2], CHAIN[:3], CHAIN], ids=len)
@pytest.mark.parametrize("workers", [0, 3])
def test_the_number_of_workers_changes_nothing(augment, workers):
    expected = list(loader(augment=augment).batches(3, 25, workers=1))
    found = list(loader(augment=augment).batches(3, 25, workers=workers))

    for a, b in zip(expected, found, strict=True):
        assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
        assert (a.mix is None) == (b.mix is None)
        if a.mix is not None and b.mix is not None:
            assert np.array_equal(a.mix.labels, b.mix.labels) and np.array_equal(a.mix.share, b.mix.share)


def test_a_sample_is_changed_in_the_same_way_whatever_the_batch_size():
    def by_label(batch, epoch):
        made = loader(augment=CHAIN[:4], batch=batch)
        steps = range(epoch * made.steps_per_epoch, (epoch + 1) * made.steps_per_epoch)
        return {
            label: image for b in map(made.at, steps) for label, image in zip(b.labels.tolist(), b.images, strict=True)
        }

    small, large = by_label(4, 1), by_label(33, 1)
    both = small.keys() & large.keys()
    assert len(both) > 90
    assert all(np.array_equal(small[label], large[label]) for label in both)
    assert not all(np.array_equal(small[label], image) for label, image in by_label(4, 2).items() if label in small)


def test_blocks_of_places_do_not_show():
    made = loader(augment=CHAIN[:2], batch=2)
    in_order = [b.images for b in made.batches(0, 3 * made.steps_per_epoch, workers=3)]

    for step in (151, 0, 31, 32, 50, 33, 100):
        assert np.array_equal(loader(augment=CHAIN[:2], batch=2).at(step).images, in_order[step])


@pytest.mark.parametrize(("kind", "per_pixel"), [(np.uint8, False), (np.float32, True)])
def test_the_compiled_sampling_is_numpys(kind, per_pixel):
    images = R.integers(0, 256, (40, 3, 14, 18), np.uint8)
    images = images if kind == np.uint8 else images.astype(np.float32) / 255
    count = 3 * 10 * 10 if per_pixel else 3
    rule = Preprocessing(3, 14, 18, (0.4,) * count, tuple(R.uniform(0.2, 0.3, count)), (10, 10))
    split = Split(images, np.arange(40, dtype=np.int32))
    for chain in (
        (Crop(10, pad=1), Rotate(20)),
        (Rotate(20), Crop(10), Elastic(5.0, 2.0)),
        (Elastic(5.0, 2.0), Crop(10), Flip()),
    ):
        settings = {"batch": 8, "augment": chain, "seed": 1}
        plain, fast = Loader(split, rule, **settings), Loader(split, rule, **settings, make_warp=compiled_warps())
        assert fast.at(7).images.shape == (8, 3, 10, 10)
        assert fast.at(7).images == pytest.approx(plain.at(7).images, abs=2e-4)
        again = list(Loader(split, rule, **settings, make_warp=compiled_warps()).batches(0, 9, workers=3))
        assert np.array_equal(again[7].images, fast.at(7).images)


@pytest.mark.parametrize("chain", [(Rotate(20), Flip()), (Rotate(20), Elastic(5.0, 2.0), Flip())])
def test_more_images_than_kernels_can_index_are_gathered_for_each_batch(monkeypatch, chain):
    images = R.integers(0, 256, (40, 3, 14, 18), np.uint8)
    split = Split(images, np.arange(40, dtype=np.int32))
    rule = Preprocessing(3, 14, 18, (0.4,) * 3, (0.3,) * 3)
    settings = {"batch": 8, "augment": chain, "seed": 1, "make_warp": compiled_warps()}
    whole = Loader(split, rule, **settings)
    monkeypatch.setattr("dlc.runtime.data.augment.INDEXED", images.size - 1)
    gathered = Loader(split, rule, **settings)

    assert np.array_equal(whole.at(7).images, gathered.at(7).images)
