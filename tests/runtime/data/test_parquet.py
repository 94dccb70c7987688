import io
import json

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from dlc.runtime.data.resize import Resize
from dlc.runtime.data.sources.parquet import Parquet
from dlc.runtime.errors import RuntimeFault

R = np.random.default_rng(0)
PICTURES = R.integers(0, 256, (40, 8, 9, 3), np.uint8)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def write(path, pictures=PICTURES, labels=None, struct=True, names=("image", "label"), features=None):
    values = [png(p) if isinstance(p, np.ndarray) else p for p in pictures]
    column = [{"bytes": v, "path": None} for v in values] if struct else values
    labels = [i % 4 for i in range(len(values))] if labels is None else labels
    table = arrow.table({names[0]: column, names[1]: labels})
    if features is not None:
        info = {"info": {"features": {names[1]: {"names": features, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    parquet.write_table(table, path, row_group_size=7)
    return path


def test_a_folder_in_hugging_faces_layout_is_read(tmp_path):
    (tmp_path / "data").mkdir()
    names = ["ant", "bee", "cat", "dog"]
    write(tmp_path / "data" / "train-00000-of-00002.parquet", PICTURES[:20], features=names)
    write(tmp_path / "data" / "train-00001-of-00002.parquet", PICTURES[20:32], features=names)
    write(tmp_path / "data" / "test-00000-of-00001.parquet", PICTURES[32:], features=names)
    data = Parquet().load(tmp_path)

    assert data.classes == tuple(names)
    assert np.array_equal(data.train.images, PICTURES[:32].transpose(0, 3, 1, 2))
    assert data.train.labels[:5].tolist() == [0, 1, 2, 3, 0] and len(data.test.labels) == 8


def test_one_file_of_bytes_and_names_is_split(tmp_path):
    labels = [("zebra", "horse")[i % 2] for i in range(40)]
    file = write(tmp_path / "all.parquet", labels=labels, struct=False, names=("img", "labels"))
    data = Parquet(path=str(file), test=0.25, channels=1).load(None, Resize(4, 4))

    assert data.classes == ("horse", "zebra")
    assert data.train.images.shape == (30, 1, 4, 4) and np.bincount(data.test.labels).tolist() == [5, 5]


def test_columns_may_have_any_name(tmp_path):
    file = write(tmp_path / "all.parquet", names=("picture of it", "what"))

    assert len(Parquet(image="picture of it", label="what").load(file).train.labels) == 32
    with pytest.raises(RuntimeFault, match=r"has no column image or img or picture, but picture of it, what\n.*image="):
        Parquet().load(file)


def test_damaged_images_are_an_error_or_left_out_with_their_number(tmp_path):
    pictures = list(PICTURES)
    pictures[3], pictures[9] = b"nothing", png(PICTURES[9])[:60]
    file = write(tmp_path / "all.parquet", pictures)

    with pytest.raises(RuntimeFault, match=r"R0211.*row 3 of .*all.parquet"):
        Parquet().load(file)
    data = Parquet(damaged="skip").load(file)
    assert len(data.train.labels) + len(data.test.labels) == 38
    assert data.notes == (f"2 damaged images of {file} left out",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b"PAR1 nothing"), "R0306"),
        (lambda p: write(p, labels=[0.5] * 40), "neither whole numbers nor names"),
        (lambda p: write(p, labels=[None] + [0] * 39), "1 labels in .* are missing"),
        (lambda p: write(p, labels=[i % 4 + 5000 for i in range(40)]), "go up to 5003, beyond the 40 samples"),
        (lambda p: write(p, labels=[-1] + [0] * 39), "label -1"),
        (lambda p: write(p, features=["a", "b"]), "label 3 of sample .* is outside 0 to 1"),
        (lambda p: write(p, [*PICTURES[:39], PICTURES[0, :4]]), r"R0311.*row 39 of .* is 9x4"),
    ],
)
def test_what_does_not_fit_is_a_fault(tmp_path, make, message):
    make(tmp_path / "x.parquet")

    with pytest.raises(RuntimeFault, match=message):
        Parquet().load(tmp_path)


def test_without_pyarrow_the_fault_says_what_to_install(tmp_path, monkeypatch):
    file = write(tmp_path / "all.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)

    with pytest.raises(RuntimeFault, match=r"R0332.*\n.*pip install 'dlc\[parquet\]'"):
        Parquet().load(file)
