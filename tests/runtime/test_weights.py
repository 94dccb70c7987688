"""Weights: safetensors files that other tools read, that come back exactly, and that are matched strictly."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlc.runtime.arrays import is_aligned
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.weights import lay_out, load_notes, load_weights, match, parse, save_weights

ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv.bias": np.array([1, 2, 3], np.float32)[::-1],
    "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 4), np.float32),
    "bytes": np.arange(5, dtype=np.uint8),
    "half": np.array([0.5, 2], np.float16),
    "brain": np.array([0.5, 2], ml_dtypes.bfloat16),
    "truth": np.array([True, False]),
    "swapped": np.array([1, 2], ">f4"),
}


def test_arrays_come_back_exactly_aligned_and_writable(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, ARRAYS, {"epoch": "3"})

    loaded = load_weights(path)

    assert list(loaded) == list(ARRAYS)
    assert load_notes(path) == {"epoch": "3"}
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype.newbyteorder("=") and loaded[name].shape == array.shape
        assert np.array_equal(loaded[name], array)
        assert is_aligned(loaded[name]) and loaded[name].flags.writeable


def test_the_safetensors_library_reads_our_files_and_we_read_its(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    plain = {n: np.ascontiguousarray(a).reshape(a.shape) for n, a in ARRAYS.items() if n not in ("brain", "swapped")}
    save_weights(ours, plain)
    safetensors.numpy.save_file(plain, theirs, {"who": "them"})

    for loaded in (safetensors.numpy.load_file(ours), load_weights(theirs)):
        for name, array in plain.items():
            assert np.array_equal(loaded[name], array) and loaded[name].dtype == array.dtype
    assert load_notes(theirs) == {"who": "them"}


def test_torch_files_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "t.safetensors"
    save_file({"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.bfloat16)}, str(path))

    loaded = load_weights(path)

    assert loaded["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert loaded["b"].astype(np.float32).tolist() == [1, 1, 1]


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda n: not n.startswith("_") and n.isprintable()),
        hnp.arrays(
            st.sampled_from(["float32", "int8", "float64"]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
        ),
        max_size=5,
    )
)
def test_any_arrays_survive(arrays: dict[str, np.ndarray]) -> None:
    blob = lay_out(arrays)
    data = bytearray(blob.header)
    for array in blob.arrays:
        data += array.tobytes()

    assert len(data) == blob.size and len(data) % 64 == 0
    parsed, _ = parse(memoryview(data), "memory")

    assert all(np.array_equal(parsed[n], a, equal_nan=True) and parsed[n].dtype == a.dtype for n, a in arrays.items())
    assert len(parsed) == len(arrays)


@pytest.mark.parametrize("keep", [0, 3, 7, 8, 20, 200, 900, -1])
def test_files_cut_off_anywhere_are_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, ARRAYS)
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(RuntimeFault, match="R0402") as caught:
        load_weights(path)

    assert str(path) in caught.value.message


def header(entry: object) -> bytes:
    text = json.dumps(entry).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04pickle" * 10,
        (2**62).to_bytes(8, "little") + b"{}",
        header([1, 2]),
        header({"w": 3}),
        header({"w": {"dtype": "F32", "shape": [4]}}),
        header({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1000]}}),
        header({"w": {"dtype": "F32", "shape": [4], "data_offsets": [8, 0]}}),
        header({"w": {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]}}),
        header({"w": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}),
        header({"w": {"dtype": "F31", "shape": [4], "data_offsets": [0, 16]}}),
        header({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}),
        header({"w": {"dtype": "F32", "shape": "four", "data_offsets": [0, 16]}}),
        header({"__metadata__": 7, "w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
        (8).to_bytes(8, "little") + b"\xff" * 8,
    ],
)
def test_files_that_are_no_safetensors_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)

    with pytest.raises(RuntimeFault, match="R0402"):
        load_weights(path)


def test_a_missing_file_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault, match=r"R0101.*No such file"):
        load_weights(tmp_path / "w.safetensors")
    with pytest.raises(RuntimeFault, match=r"R0110[\s\S]*make the folder first"):
        save_weights(tmp_path / "no" / "w.safetensors", {})


def test_weights_are_matched_by_name_and_shape_in_the_networks_order() -> None:
    arrays = {"b": np.zeros(3, np.float16), "w": np.zeros((2, 3), np.float64)}

    matched = match({"w": (2, 3), "b": (3,)}, arrays, "w.safetensors")

    assert list(matched) == ["w", "b"]
    assert {a.dtype.name for a in matched.values()} == {"float32"}


def test_all_differences_are_reported_at_once() -> None:
    shapes = {"layer1.weight": (2, 3), "layer1.bias": (2,), "head.weight": (4, 4)}
    arrays = {"layer_1.weight": np.zeros((2, 3)), "head.weight": np.zeros((4, 5)), "layer1.bias": np.zeros(2)}

    with pytest.raises(RuntimeFault, match="R0403") as caught:
        match(shapes, arrays, "w.safetensors")

    assert caught.value.message.splitlines() == [
        "the weights of w.safetensors do not fit the network: 1 missing, 1 unknown, 1 misshapen",
        "   missing: layer1.weight (the file has layer_1.weight)",
        "   unknown: layer_1.weight",
        "   misshapen: head.weight must be [4, 4], the file has [4, 5]",
    ]


def test_long_reports_are_cut() -> None:
    with pytest.raises(RuntimeFault) as caught:
        match({f"w{i}": (1,) for i in range(50)}, {}, "w.safetensors")

    assert "50 missing" in caught.value.message
    assert "and 40 more" in caught.value.message


def test_whole_numbers_are_no_weights() -> None:
    with pytest.raises(RuntimeFault, match=r"'w' holds int32, not float32"):
        match({"w": (2,)}, {"w": np.zeros(2, np.int32)}, "w.safetensors")
