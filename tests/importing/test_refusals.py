"""Files that cannot be imported say why, all of it at once, and leave nothing behind."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dlc import api, importing
from dlc.cli import main
from dlc.compiler.errors import Diagnostic, DlcError

node = helper.make_node
RELU = [node("Relu", ["x"], ["y"])]


def refused(path: Path, folder: Path) -> tuple[Diagnostic, ...]:
    with pytest.raises(DlcError) as caught:
        importing.import_onnx(path, folder)
    assert not folder.exists()
    return caught.value.diagnostics


def test_all_operators_that_are_not_known_are_named_with_their_nodes(
    onnx_file: Callable[..., Path], tmp_path: Path
) -> None:
    nodes = [
        node("Einsum", ["x"], ["a"], name="attend", equation="nc->nc"),
        node("Relu", ["a"], ["b"]),
        node("Det", ["b"], ["c"]),
        node("FusedConv", ["c"], ["d"], name="fused", domain="com.microsoft"),
        *(node("Det", ["d"], [name]) for name in ("e", "f", "y")),
    ]

    said = refused(onnx_file(nodes), tmp_path / "out")

    assert [d.code for d in said] == ["E0872"] * 3
    assert [d.message for d in said] == [
        "the operator Einsum is not known",
        "the operator Det is not known",
        "the operator FusedConv of com.microsoft is not known",
    ]
    assert said[0].notes == ("used by node `attend` (Einsum, output `a`)",)
    assert said[1].notes[0] == "used by node (Det, output `c`)" and said[1].notes[-1] == "and 1 more"


def test_all_nodes_that_the_language_cannot_say_are_named_with_the_reason(
    onnx_file: Callable[..., Path], tmp_path: Path
) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="first", auto_pad="SAME_LOWER", strides=[2, 2]),
        node("MaxPool", ["x"], ["b"], name="second", kernel_shape=[2, 2], dilations=[2, 2]),
        node("Conv", ["x", "x"], ["y"], name="third"),
    ]

    said = refused(onnx_file(nodes, {"w": np.zeros((4, 3, 3, 3), np.float32)}), tmp_path / "out")

    assert {d.code for d in said} == {"E0873"}
    reasons = ["auto_pad is SAME_LOWER", "its window is dilated", "its weight `x` is computed or an input"]
    for diagnostic, name, reason in zip(said, ("first", "second", "third"), reasons, strict=True):
        assert f"node `{name}`" in diagnostic.message and reason in diagnostic.message


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("Erf", ["x"], ["y"])], "only where it makes a layer together with its neighbours"),
        ([node("Softmax", ["x"], ["y"], axis=2)], "its axis is 2, not the channels'"),
        ([node("Transpose", ["x"], ["y"], perm=[0, 1, 3, 2])], "Transpose is known only where"),
        ([node("Reshape", ["x", "s"], ["y"])], "the batch does not stay"),
        ([node("Add", ["x", "big"], ["y"])], "neither a number nor one number per channel"),
        ([node("Gather", ["x", "s"], ["y"])], "the operator Gather is not known"),
        ([node("Constant", [], ["y"], value_floats=[1.0])], "does not depend on any input"),
        ([node("Cast", ["x"], ["i"], to=7), node("Cast", ["i"], ["y"], to=1)], "it makes INT64 of its input"),
        ([node("LRN", ["x"], ["y"], size=4)], "its size is 4"),
        ([node("Concat", ["x", "big"], ["y"], axis=1)], "its input 1 is a constant"),
        ([node("BatchNormalization", ["x", *["w"] * 4], ["y"], training_mode=1)], "it is in training mode"),
    ],
)
def test_what_the_language_does_not_have_is_refused(
    nodes: list[onnx.NodeProto], reason: str, onnx_file: Callable[..., Path], tmp_path: Path
) -> None:
    weights = {
        "s": np.array([-1, 32], np.int64),
        "big": np.ones((1, 3, 8, 8), np.float32),
        "w": np.ones(3, np.float32),
    }

    assert any(reason in d.message for d in refused(onnx_file(nodes, weights), tmp_path / "out"))


@pytest.mark.parametrize("shape", [(3, "height", "width"), (5, 3), (2, 3, 4, 5)])
def test_sizes_that_are_not_fixed_and_ranks_that_are_no_images_are_refused(
    shape: tuple[int | str, ...], onnx_file: Callable[..., Path], tmp_path: Path
) -> None:
    (said,) = refused(onnx_file(RELU, shape=shape), tmp_path / "out")

    assert said.code == "E0874" and "`x` is [batch, " in said.message


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08\x12\x00" * 5])
def test_a_file_that_is_no_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)

    (said,) = refused(path, tmp_path / "out")

    assert said.code == "E0870"


def test_a_file_that_is_cut_off_anywhere_or_missing_is_refused(onnx_file: Callable[..., Path], tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], ["y"], name="first")]
    path = onnx_file(nodes, {"w": np.ones((4, 3, 3, 3), np.float32)})
    whole = path.read_bytes()

    for length in range(0, len(whole), 23):
        path.write_bytes(whole[:length])
        assert refused(path, tmp_path / "out")
    path.unlink()
    assert refused(path, tmp_path / "out")[0].code == "E0870"


def test_weights_in_a_file_that_is_not_there_are_refused(tmp_path: Path, onnx_file: Callable[..., Path]) -> None:
    path = onnx_file([node("Conv", ["x", "w"], ["y"])], {"w": np.ones((4, 3, 3, 3), np.float32)})
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    report = importing.import_onnx(path, tmp_path / "with")
    (tmp_path / "weights.bin").unlink()

    (said,) = refused(path, tmp_path / "out")

    assert report.parameters == 108
    assert said.code == "E0871" and "weights.bin" in said.message


def test_a_folder_with_other_files_is_not_written_to_without_force(
    tmp_path: Path, onnx_file: Callable[..., Path]
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    path = onnx_file(RELU)
    with pytest.raises(DlcError, match="E0875"):
        importing.import_onnx(path, folder)
    assert [f.name for f in folder.iterdir()] == ["notes.txt"]

    report = importing.import_onnx(path, folder, force=True)

    assert (folder / "notes.txt").read_text() == "mine" and api.check(report.spec)


def test_a_place_that_is_a_file_is_refused(tmp_path: Path, onnx_file: Callable[..., Path]) -> None:
    path = onnx_file(RELU)

    with pytest.raises(DlcError, match="E0875"):
        importing.import_onnx(path, path)


@pytest.mark.parametrize("name", ["", "my net", "../Net", "in", "9Lives"])
def test_a_name_that_the_language_does_not_take_is_refused(
    name: str, tmp_path: Path, onnx_file: Callable[..., Path]
) -> None:
    with pytest.raises(DlcError, match="E0876"):
        importing.import_onnx(onnx_file(RELU), tmp_path / "out", model=name)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["relu", "fork", "in", "3", "a b", "net"])
def test_an_input_may_have_any_name(name: str, tmp_path: Path) -> None:
    sizes = {"float": onnx.TensorProto.FLOAT, "shape": [1, 3]}
    value_in = helper.make_tensor_value_info(name, sizes["float"], sizes["shape"])
    value_out = helper.make_tensor_value_info("if", sizes["float"], sizes["shape"])
    graph = helper.make_graph([node("Relu", [name], ["if"])], name, [value_in], [value_out])
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx")

    report = importing.import_onnx(tmp_path / "net.onnx", tmp_path / "out")

    assert api.check(report.spec)


def test_without_the_package_the_command_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(DlcError, match=r"pip install 'dlc\[onnx\]'"):
        importing.import_onnx("net.onnx")


def test_weights_that_cannot_be_written_leave_nothing(
    tmp_path: Path, onnx_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importing, "save_weights", fail)

    with pytest.raises(Exception, match="No space left"):
        importing.import_onnx(onnx_file(RELU), tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_weights_of_half_precision_are_read(tmp_path: Path, onnx_file: Callable[..., Path]) -> None:
    path = onnx_file([node("Gemm", ["x", "w"], ["y"])], {"w": np.ones((7, 5), np.float16)}, (7,))

    assert importing.import_onnx(path, tmp_path / "out").parameters == 35


def test_the_command_writes_both_files_and_says_so_in_json(
    tmp_path: Path, onnx_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = onnx_file([node("Gemm", ["x", "w"], ["y"])], {"w": np.ones((7, 5), np.float32)}, (7,))
    argv = ["dlc", "import", str(path), "-o", str(tmp_path / "out"), "--model", "Tiny", "--json"]
    monkeypatch.setattr(sys, "argv", argv)

    main()

    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["params"] == said["macs"] == 35 and said["model"] == "Tiny"
    assert Path(said["spec"]) == tmp_path / "out" / "Tiny.dlspec" and Path(said["weights"]).exists()


def test_an_initializer_that_is_an_input_too_is_a_weight(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((7, 5), np.float32), "w")
    inputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, s) for name, s in (("w", [7, 5]), ("x", [1, 7]))
    ]
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 5])
    graph = helper.make_graph([node("Gemm", ["x", "w"], ["y"])], "net", inputs, [output], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)]), tmp_path / "net.onnx")

    report = importing.import_onnx(tmp_path / "net.onnx", tmp_path / "out")

    assert [i.name for i in api.one_network(report.spec).inputs] == ["x"]
