"""The session: what `dlc.load` and `dlc.compile` return."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from dlc.runtime.artifact import Artifact
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.session import Results, Session
from tests.runtime.conftest import expected, samples


@pytest.fixture
def net(artifact: Artifact) -> Session:
    return Session(artifact)


@pytest.fixture
def single(artifact: Artifact) -> Session:
    """The same model with one output."""
    program = artifact.manifest.program
    slots = (*program.slots[:7], msgspec.structs.replace(program.slots[7], place="arena", storage=9), program.slots[8])
    program = msgspec.structs.replace(program, slots=slots, outputs=program.outputs[1:])
    return Session(
        Artifact(msgspec.structs.replace(artifact.manifest, program=program), artifact.code, artifact.weights)
    )


def test_inputs_come_by_position_by_name_or_both(net: Session, bias: np.ndarray) -> None:
    image, shift = samples(3)
    want = expected(image, shift, bias)
    for result in (net(image, shift), net(image, shift=shift), net(shift=shift, image=image)):
        np.testing.assert_array_equal(result["sum"], want[0])


def test_several_outputs_are_found_by_name_attribute_and_order(net: Session, bias: np.ndarray) -> None:
    result = net(*samples(2))
    total, difference = result.values()

    assert result.sum is result["sum"] is total
    assert result.difference is difference
    assert list(result) == ["sum", "difference"] and len(result) == 2
    assert repr(result) == "Results(sum: [2, 384], difference: [2, 384])"
    with pytest.raises(RuntimeFault, match=r"no output 'som'[\s\S]*did you mean 'sum'"):
        result["som"]
    with pytest.raises(AttributeError, match="no output 'logits'"):
        result.logits  # noqa: B018
    assert "som" not in result.keys() | set()


@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_several_outputs_can_be_copied_and_pickled(net: Session, through: Callable[[Results], Results]) -> None:
    result = net(*samples(2))

    copied = through(result)

    assert isinstance(copied, Results) and list(copied) == list(result)
    assert all(np.array_equal(copied[name], result[name]) for name in result)


def test_one_output_is_an_array(single: Session, bias: np.ndarray) -> None:
    for count in (1, 2, 50):
        values = samples(count)
        result = single(*values)

        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, expected(*values, bias)[1])


def test_a_session_describes_itself(net: Session) -> None:
    assert [s.name for s in net.inputs] == ["image", "shift"]
    assert net.inputs[0].shape == (-1, 3, 8, 16) and net.inputs[0].dtype == "float32"
    assert [s.name for s in net.outputs] == ["sum", "difference"]
    assert net.classes == ("cat", "dog")
    assert repr(net) == (
        "<dlc.Session Pair: image: [N, 3, 8, 16], shift: [N, 384] -> sum: [N, 384], difference: [N, 384], x86-64-v3>"
    )


def test_torch_tensors_are_read_without_a_copy(net: Session, bias: np.ndarray) -> None:
    image, shift = (torch.from_numpy(a).clone() for a in samples(64))

    result = net(image, shift)

    np.testing.assert_array_equal(result["sum"], expected(image.numpy(), shift.numpy(), bias)[0])
    assert not net.executor._free[-1].copies


def test_wrong_numbers_of_inputs_are_refused(net: Session) -> None:
    image, shift = samples(1)
    with pytest.raises(RuntimeFault, match=r"input 'shift' is missing[\s\S]*shift \[N, 384\] float32"):
        net(image)
    with pytest.raises(RuntimeFault, match="takes 2 inputs, got 3"):
        net(image, shift, shift)
    with pytest.raises(RuntimeFault, match="'image' is given twice"):
        net(image, image=image)
    with pytest.raises(RuntimeFault, match=r"no input 'shifts'[\s\S]*did you mean 'shift'"):
        net(image, shifts=shift)


def test_the_number_of_threads_can_be_set(artifact: Artifact) -> None:
    net = Session(artifact, threads=1)
    assert net.threads == 1
    before = net(*samples(9))["sum"]

    net.threads = None

    assert net.threads >= 1
    np.testing.assert_array_equal(net(*samples(9))["sum"], before)


def test_a_profile_takes_inputs_as_a_call_does(net: Session) -> None:
    image, shift = samples(2)

    assert [s.layer for s in net.profile(image, shift=shift, repeats=2)] == [
        "first",
        "first",
        "second",
        "third",
        "third",
    ]


def test_sessions_come_and_go_on_many_threads(artifact: Artifact, bias: np.ndarray) -> None:
    wrong: list[object] = []

    def work(seed: int) -> None:
        try:
            for turn in range(8):
                values = samples(turn * 9 + 1, seed)
                if not np.array_equal(Session(artifact)(*values)["sum"], expected(*values, bias)[0]):
                    wrong.append((seed, turn))
        except BaseException as error:
            wrong.append(error)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert wrong == []


def test_preprocess_takes_files_and_arrays(net: Session, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    want = ((pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.25)[None]

    for given in (path, str(path), pixels, pixels.transpose(2, 0, 1), pixels[None]):
        result = net.preprocess(given)
        assert result.dtype == np.float32 and result.shape == (1, 3, 8, 16)
        np.testing.assert_allclose(result, want, atol=1e-5)
    assert net(net.preprocess(path), np.zeros((1, 384), np.float32))["sum"].shape == (1, 384)


def test_preprocess_takes_images_of_any_size_and_mode(net: Session, tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P", "CMYK", "1", "LA"):
        path = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.new("RGB", (37, 20), (200, 100, 50)).convert(mode).save(path)
        assert net.preprocess(path).shape == (1, 3, 8, 16)


def test_preprocess_resizes_to_another_size_where_asked(net: Session) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)

    assert net.preprocess(pixels, size=(12, 20)).shape == (1, 3, 12, 20)
    np.testing.assert_array_equal(net.preprocess(pixels, size=(8, 16)), net.preprocess(pixels))


def test_pixels_with_means_of_their_own_have_one_size(artifact: Artifact) -> None:
    means = tuple(np.linspace(0, 1, 384))
    rule = Preprocessing(3, 8, 16, means, (1.0,) * 384)
    net = Session(
        Artifact(msgspec.structs.replace(artifact.manifest, preprocessing=rule), artifact.code, artifact.weights)
    )

    assert net.preprocess(np.zeros((9, 9, 3), np.uint8), size=(8, 16)).shape == (1, 3, 8, 16)
    with pytest.raises(RuntimeFault, match=r"R0220.*8x16 alone"):
        net.preprocess(np.zeros((9, 9, 3), np.uint8), size=(12, 20))


def test_images_that_cannot_be_read_are_named(net: Session, tmp_path: Path) -> None:
    text = tmp_path / "a.png"
    text.write_text("not an image")
    with pytest.raises(RuntimeFault, match="R0211"):
        net.preprocess(text)
    with pytest.raises(RuntimeFault, match=r"R0101.*No such file"):
        net.preprocess(tmp_path / "missing.png")
    with pytest.raises(RuntimeFault, match="R0101"):
        net.preprocess(tmp_path)
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(whole)
    for keep in (30, 200, 5000):
        whole.write_bytes(whole.read_bytes()[:keep])
        with pytest.raises(RuntimeFault, match="R0211"):
            net.preprocess(whole)


def test_without_preprocessing_the_caller_is_told_so(artifact: Artifact) -> None:
    manifest = msgspec.structs.replace(artifact.manifest, preprocessing=None)

    with pytest.raises(RuntimeFault, match="R0210"):
        Session(Artifact(manifest, artifact.code, artifact.weights)).preprocess("cat.png")
