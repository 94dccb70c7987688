"""Sources: what they read, and the fault for every way in which files can be wrong."""

import gzip
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from dlc.compiler.catalog import catalog
from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.checks import check_dataset
from dlc.runtime.data.sources.base import Dataset, Source, Split
from dlc.runtime.data.sources.cifar import Cifar10, Cifar100
from dlc.runtime.data.sources.folder import Folder
from dlc.runtime.data.sources.idx import Idx
from dlc.runtime.data.sources.mnist import FashionMnist, Mnist
from dlc.runtime.data.sources.mnist_mini import FILE, MnistMini
from dlc.runtime.data.sources.npz import Npz
from dlc.runtime.errors import RuntimeFault

R = np.random.default_rng(0)
IMAGES = R.integers(0, 256, (30, 5, 4), np.uint8)
LABELS = (np.arange(30) % 10).astype(np.uint8)
NAMES = {
    "train-images-idx3-ubyte": IMAGES, "train-labels-idx1-ubyte": LABELS,
    "t10k-images-idx3-ubyte": IMAGES[:10], "t10k-labels-idx1-ubyte": LABELS[:10],
}  # fmt: skip


def idx(array, kind=0x08):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """A directory of four small files in MNIST's form."""
    for name, array in NAMES.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return tmp_path


def fault(load, *parts):
    with pytest.raises(RuntimeFault) as caught:
        load()
    text = str(caught.value)
    for part in parts:
        assert part in text
    return caught.value


def test_mnist_mini_ships_with_the_package_and_is_stratified():
    data = MnistMini().load(None)

    assert FILE.stat().st_size < 1_600_000
    assert (data.train.images.shape, data.test.images.shape) == ((6000, 1, 28, 28), (1000, 1, 28, 28))
    assert data.train.images.dtype == np.uint8
    assert np.bincount(data.train.labels).tolist() == [600] * 10
    assert np.bincount(data.test.labels).tolist() == [100] * 10
    assert data.classes == tuple("0123456789")


def test_idx_files_are_read_packed_or_plain(mnist):
    packed = Mnist().load(mnist)
    for name, array in NAMES.items():
        (mnist / f"{name}.gz").unlink()
        (mnist / name).write_bytes(idx(array))
    plain = Mnist(path=str(mnist)).load(None)

    for data in (packed, plain):
        assert np.array_equal(data.train.images[:, 0], IMAGES)
        assert np.array_equal(data.test.labels, LABELS[:10])
        assert data.test.labels.dtype == np.int32
        assert data.classes == tuple("0123456789")


def test_fashion_mnist_has_its_own_classes(mnist):
    assert FashionMnist().load(mnist).classes[9] == "ankle boot"


def test_idx_takes_other_names_types_and_channels(tmp_path):
    colours = R.integers(0, 256, (12, 3, 4, 4), np.uint8)
    labels = (np.arange(12) % 3).astype(">i4")
    (tmp_path / "a").write_bytes(idx(colours))
    (tmp_path / "b.gz").write_bytes(gzip.compress(idx(labels, 0x0C)))
    data = Idx(train_images="a", train_labels="b.gz", test_images="a", test_labels="b").load(tmp_path)

    assert np.array_equal(data.train.images, colours)
    assert data.test.labels.tolist() == labels.tolist()
    assert data.classes == ("0", "1", "2")


def test_the_command_lines_directory_goes_before_path(mnist):
    assert len(Mnist(path="/nowhere").load(mnist).test.labels) == 10


def test_without_a_place_the_fault_says_how_to_give_one():
    fault(lambda: Idx().load(None), "needs a place", "--data PATH", "train-images-idx3-ubyte")


def test_a_missing_directory_or_file_is_named(mnist):
    fault(lambda: Mnist().load(mnist / "x"), f"{mnist / 'x'} does not exist")
    (mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    fault(lambda: Mnist().load(mnist), "has no t10k-labels-idx1-ubyte or", "place train-images-idx3-ubyte,")
    fault(lambda: Mnist().load(mnist / "train-images-idx3-ubyte.gz"), "is not a directory")


@pytest.mark.parametrize(
    ("name", "spoil", "parts"),
    [
        ("train-images-idx3-ubyte", lambda b: b[:100], ["should hold 600 bytes for shape [30, 5, 4], but holds 84"]),
        ("train-images-idx3-ubyte", lambda b: b + b"x", ["but holds 601"]),
        ("train-images-idx3-ubyte", lambda b: b[:9], ["cut off inside its header"]),
        ("train-images-idx3-ubyte", lambda b: b"", ["not an IDX file: it starts with nothing"]),
        ("train-images-idx3-ubyte", lambda b: b"<html>" + b, ["not an IDX file: it starts with 3c 68 74 6d"]),
        ("train-images-idx3-ubyte", lambda b: idx(LABELS), ["not uint8 images", "is it the labels' file?"]),
        ("train-labels-idx1-ubyte", lambda b: idx(IMAGES), ["not labels [n]", "is it the images' file?"]),
        ("train-labels-idx1-ubyte", lambda b: idx(LABELS[:29]), ["has 30 images but", "has 29 labels"]),
        ("train-labels-idx1-ubyte", lambda b: idx(LABELS + 1), ["label 10 of sample 9 in the training part"]),
        ("train-labels-idx1-ubyte", lambda b: idx(LABELS % 9), ["class 9 has no training sample"]),
        ("t10k-images-idx3-ubyte", lambda b: idx(IMAGES[:10, :4]), ["training images are [1, 5, 4] but test images are [1, 4, 4]"]),
        ("t10k-images-idx3-ubyte", lambda b: b[:3] + b"\xff", ["cut off inside its header"]),
        ("t10k-images-idx3-ubyte", lambda b: gzip.compress(b)[:-20], ["t10k-images-idx3-ubyte is cut off"]),
        ("t10k-images-idx3-ubyte", lambda b: gzip.compress(b)[:-8] + b"12345678", ["is damaged"]),
        ("t10k-images-idx3-ubyte", lambda b: b"\x1f\x8b" + b, ["is damaged"]),
    ],
)  # fmt: skip
def test_a_wrong_idx_file_is_named_with_what_is_wrong(mnist, name, spoil, parts):
    (mnist / f"{name}.gz").unlink()
    (mnist / name).write_bytes(spoil(idx(NAMES[name])))

    fault(lambda: Mnist().load(mnist), *parts)


def test_an_empty_part_is_a_fault(mnist):
    (mnist / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES[:0])))
    (mnist / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS[:0])))

    fault(lambda: Mnist().load(mnist), "the test part of", "is empty")


def test_a_label_beyond_all_counting_makes_no_list_of_classes(tmp_path, mnist):
    labels = LABELS.astype(">i4")
    labels[3] = 2_000_000_000
    (mnist / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels, 0x0C)))

    fault(lambda: Idx().load(mnist), "go up to 2000000000, beyond the 30 training samples")


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("X_train", "y_train", "X_test", "y_test"),
    ],
)
def test_npz_knows_several_names(tmp_path, names):
    arrays = dict(zip(names, (IMAGES, LABELS, IMAGES[:10], LABELS[:10, None]), strict=True))
    np.savez(tmp_path / "d.npz", **arrays, classes=np.array(list("abcdefghij")))
    for place in (tmp_path / "d.npz", tmp_path):
        data = Npz().load(place)
        assert np.array_equal(data.train.images[:, 0], IMAGES)
        assert data.test.labels.tolist() == LABELS[:10].tolist()
        assert data.classes == tuple("abcdefghij")


def test_npz_with_channels_last_and_floats_and_no_test_part(tmp_path):
    images = R.random((50, 6, 6, 3))
    np.savez_compressed(tmp_path / "d.npz", x=images, y=np.arange(50) % 5)
    data = Npz(path=str(tmp_path / "d.npz")).load(None)

    assert data.train.images.shape == (40, 3, 6, 6) and data.train.images.dtype == np.float32
    assert np.bincount(data.test.labels).tolist() == [2] * 5
    whole = np.concatenate([data.train.images, data.test.images])
    assert np.isclose(whole.mean(), images.mean())


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        ({"a": IMAGES}, ["holds a", "x_train, y_train"]),
        ({"x": np.uint8(3), "y": np.int64(1)}, ["single number"]),
        ({}, ["holds nothing"]),
        ({"x": IMAGES, "y": LABELS[:20]}, ["has 30 images but 20 labels"]),
        ({"x": IMAGES, "y": LABELS.astype(float)}, ["are float64, not integers"]),
        ({"x": IMAGES, "y": LABELS.astype(int) - 1}, ["labels in", "go from -1"]),
        ({"x": IMAGES.astype(int) * 2, "y": LABELS}, ["go beyond 0 to 255"]),
        ({"x": IMAGES[0], "y": LABELS[:5] * 0}, ["have the shape [4, 4], not [n, channels, height, width]"]),
        ({"x": np.where(IMAGES == IMAGES, np.nan, 0), "y": LABELS}, ["holds a NaN"]),
        ({"x": IMAGES.astype(str), "y": LABELS}, ["not uint8 or float32"]),
        ({"x": IMAGES, "y": LABELS, "classes": np.array(["a"])}, ["names 1 classes, but its labels go to 9"]),
        ({"x": IMAGES, "y": np.array([{}] * 30)}, ["not a plain .npz archive"]),
    ],
)
def test_a_wrong_npz_is_named_with_what_is_wrong(tmp_path, arrays, parts):
    np.savez(tmp_path / "d.npz", **arrays)

    fault(lambda: Npz().load(tmp_path / "d.npz"), "d.npz", *parts)


@pytest.mark.parametrize("shape", ["(1000000000000, 3, 16, 16)", "(9,,", "(-1, 4)"])
def test_an_npz_with_an_impossible_header_is_a_fault(tmp_path, shape):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"abc"
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", content)

    fault(lambda: Npz().load(tmp_path / "d.npz"), "d.npz")


def test_a_file_that_is_no_npz_is_a_fault(tmp_path):
    good = tmp_path / "good.npz"
    np.savez_compressed(good, x=IMAGES, y=LABELS)
    for content in (
        b"",
        b"hello",
        good.read_bytes()[:-30],
        good.read_bytes()[:200] + b"\0" * 50 + good.read_bytes()[250:],
    ):
        (tmp_path / "bad.npz").write_bytes(content)
        fault(lambda: Npz().load(tmp_path / "bad.npz"), "bad.npz")
    np.save(tmp_path / "array.npy", IMAGES)
    fault(lambda: Npz().load(tmp_path / "array.npy"), "single array")
    fault(lambda: Npz().load(tmp_path), "holds 2 .npz files", "--data FILE.npz")


@pytest.fixture
def pictures(tmp_path):
    """train/ and test/ with the classes cat and dog, 6 and 2 images each."""
    for part, count in (("train", 6), ("test", 2)):
        for name in ("dog", "cat"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(R.integers(0, 256, (8, 9, 3), np.uint8)).save(folder / f"{i}.png")
    return tmp_path


def test_folders_are_classes_in_sorted_order(pictures):
    data = Folder().load(pictures)

    assert data.classes == ("cat", "dog")
    assert data.train.images.shape == (12, 3, 8, 9)
    assert data.train.labels.tolist() == [0] * 6 + [1] * 6
    first = np.asarray(Image.open(pictures / "train" / "cat" / "0.png"))
    assert np.array_equal(data.train.images[0], first.transpose(2, 0, 1))


def test_a_single_tree_is_split_the_same_way_each_time(pictures):
    one, two = (Folder(test=0.5).load(pictures / "train") for _ in range(2))

    assert np.bincount(one.train.labels).tolist() == [3, 3] == np.bincount(one.test.labels).tolist()
    assert np.array_equal(one.test.images, two.test.images)


def test_images_are_scaled_and_made_grey_on_request(pictures):
    data = Folder(size=4, channels=1).load(pictures)

    assert data.train.images.shape == (12, 1, 4, 4)
    assert Folder(size=(4, 6)).load(pictures).train.images.shape == (12, 3, 4, 6)


def test_grey_files_give_one_channel_and_mixed_ones_three(pictures):
    for path in pictures.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert Folder().load(pictures).train.images.shape[1] == 1
    Image.fromarray(R.integers(0, 256, (8, 9, 3), np.uint8)).save(pictures / "train" / "cat" / "0.png")
    fault(lambda: Folder().load(pictures), "one of train and test is grey", "channels=3")
    assert Folder(channels=3).load(pictures).train.images.shape[1] == 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_kind_of_image_becomes_bytes(tmp_path, mode):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            if mode == "I;16":
                picture = Image.fromarray(R.integers(0, 65536, (5, 5)).astype(np.uint16))
            else:
                picture = Image.fromarray(R.integers(0, 256, (5, 5, 3), np.uint8)).convert(mode)
            picture.save(tmp_path / name / f"{i}.{'tiff' if mode in ('CMYK', 'F') else 'png'}")

    data = Folder(test=0.4).load(tmp_path)
    assert data.train.images.dtype == np.uint8
    assert data.train.images.shape[1] == (1 if mode in ("1", "L", "LA", "I;16", "F") else 3)
    assert data.train.images.max() > 50


def test_wrong_folders_are_named_with_what_is_wrong(pictures, tmp_path):
    broken = pictures / "train" / "dog" / "3.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:60])
    fault(lambda: Folder().load(pictures), "train/dog/3.png is damaged")
    broken.write_bytes(b"hello")
    fault(lambda: Folder().load(pictures), "train/dog/3.png is no image")
    Image.fromarray(np.zeros((7, 9, 3), np.uint8)).save(broken)
    fault(lambda: Folder().load(pictures), "images differ in size", "9x8", "9x7", "`resize 64`")
    broken.write_bytes(whole)
    (pictures / "test" / "horse").mkdir()
    fault(lambda: Folder().load(pictures), "test/horse holds no images")
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(pictures / "test" / "horse" / "1.png")
    fault(lambda: Folder().load(pictures), "horse is a class that", "train does not have")
    fault(lambda: Folder().load(pictures / "test" / "horse"), "has no folders")
    fault(lambda: Folder().load(broken), "is not a directory")
    (pictures / "test").rename(pictures / "other")
    fault(lambda: Folder().load(pictures), "no folder test beside it")


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Folder(size=0), "size"), (lambda: Folder(channels=2), "channels"), (lambda: Folder(test=1.0), "test"),
        (lambda: Npz(test=0.0), "test"),
    ],
)  # fmt: skip
def test_an_argument_without_sense_is_refused_by_name(make, field):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert caught.value.field == field


def test_a_class_without_test_samples_is_fine_but_not_without_training_samples():
    train = Split(IMAGES[:, None], LABELS.astype(np.int32))
    test = Split(IMAGES[:3, None], LABELS[:3].astype(np.int32))
    classes = tuple("0123456789")

    assert check_dataset(Dataset(train, test, classes), "here").classes == classes
    fault(
        lambda: check_dataset(Dataset(train, test, (*classes, "ten")), "here"),
        "class 10 (ten) has no training sample in here",
    )
    fault(lambda: check_dataset(Dataset(train, test, classes[:5]), "here"), "label 9 of sample 9", "outside 0 to 4")


def test_every_source_is_in_the_catalog():
    assert set(catalog("dlc.runtime.data.sources", Source)) == {
        "cifar10",
        "cifar100",
        "fashion-mnist",
        "folder",
        "idx",
        "mnist",
        "mnist-mini",
        "npz",
        "parquet",
    }


def test_cifar_is_read_from_its_binary_files(tmp_path):
    pixels = R.integers(0, 256, (20, 3072), np.uint8)
    labels = (np.arange(20) % 10).astype(np.uint8)[:, None]
    ten = tmp_path / "cifar-10-batches-bin"
    ten.mkdir()
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (ten / f"{name}.bin").write_bytes(np.hstack([labels, pixels]).tobytes())
    for name in ("train", "test"):
        (tmp_path / f"{name}.bin").write_bytes(np.hstack([labels * 0, labels, pixels]).tobytes())
    (tmp_path / "fine_label_names.txt").write_text("\n".join("abcdefghij"))

    data = Cifar10().load(tmp_path)
    assert data.train.images.shape == (100, 3, 32, 32) and data.classes[9] == "truck"
    assert np.array_equal(data.test.images.reshape(20, -1), pixels)
    assert data.test.labels.tolist() == labels[:, 0].tolist()
    hundred = Cifar100().load(tmp_path)
    assert np.array_equal(hundred.test.images.reshape(20, -1), pixels)
    assert hundred.classes == tuple("abcdefghij")
    (ten / "data_batch_3.bin").write_bytes(b"x" * 3000)
    fault(lambda: Cifar10().load(tmp_path), "data_batch_3.bin holds 3,000 bytes", "records of 3,073")
    (ten / "data_batch_3.bin").unlink()
    fault(lambda: Cifar10().load(tmp_path), "has no data_batch_3.bin", "the binary version")


def python_batch(records, key=b"labels"):
    """A batch of CIFAR's Python version as Python 2 pickled it: keys and strings are bytes."""
    import pickle

    return pickle.dumps({b"data": records, key: list(range(len(records))), b"batch_label": b"x"}, protocol=2)


def test_cifar_is_read_from_its_python_files_and_archives(tmp_path):
    import tarfile

    records = R.integers(0, 256, (10, 3072), np.uint8)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(python_batch(records))
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(folder, folder.name)
    data = Cifar10().load(tmp_path)
    assert data.train.images.shape == (50, 3, 32, 32) and data.test.labels.tolist() == list(range(10))
    assert np.array_equal(data.test.images.reshape(10, -1), records)

    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    for place in (tmp_path, tmp_path / "cifar-10-python.tar.gz"):
        assert np.array_equal(Cifar10().load(place).train.images, data.train.images)
    packed = (tmp_path / "cifar-10-python.tar.gz").read_bytes()
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(packed[:2000])
    fault(lambda: Cifar10().load(tmp_path), "cut off or damaged")


def test_pickles_that_call_anything_are_refused(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return print, ("called",)

    for name in ("train", "test", "meta"):
        (tmp_path / name).write_bytes(pickle.dumps({b"data": Evil()}))

    fault(lambda: Cifar100().load(tmp_path), "R0306", "it wants to call builtins.print")


def test_damaged_files_of_a_folder_may_be_left_out(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(6):
            Image.fromarray(IMAGES[number]).save(tmp_path / name / f"{number}.png")
    (tmp_path / "cat" / "3.png").write_bytes(b"no image")

    fault(lambda: Folder(test=0.5).load(tmp_path), "cat/3.png is no image")
    data = Folder(test=0.5, damaged="skip").load(tmp_path)
    assert len(data.train.labels) + len(data.test.labels) == 11
    assert data.notes == (f"1 damaged image of {tmp_path} left out",)


def test_images_of_a_folder_get_the_size_of_the_data_section_at_once(tmp_path):
    from dlc.runtime.data.resize import Resize

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            size = (10 + number, 8)
            Image.fromarray(R.integers(0, 256, size, np.uint8)).save(tmp_path / name / f"{number}.png")

    assert Folder(test=0.5, size=3).load(tmp_path, Resize(6, 7)).train.images.shape == (4, 1, 6, 7)
