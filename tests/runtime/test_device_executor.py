"""The executor for GPUs, on a device that is this process: same plans, copies and graphs, kernels for the processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import api
from dlc.runtime.arrays import aligned_copy
from dlc.runtime.device_executor import DeviceExecutor
from dlc.runtime.device_memory import DeviceMemory
from dlc.runtime.device_tensor import DeviceArray
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.library import load_code
from dlc.runtime.session import Session

SPECS = Path(dlc.__file__).parent / "specs"


@pytest.fixture(scope="module")
def net() -> Session:
    return api.compile(SPECS / "lenet5.dlspec", model="LeNet5")


def on(gpu: Any, net: Session) -> DeviceExecutor:
    artifact = net._artifact
    return DeviceExecutor(artifact.manifest.program, load_code(artifact.code), artifact.weights, gpu)


def images(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 1, 32, 32), np.float32)


def test_results_are_those_of_the_processor_from_the_first_run_to_the_captured_graph(
    net: Session, stand_in: Callable[..., Any]
) -> None:
    gpu = stand_in()
    executor = on(gpu, net)
    gpu.log.clear()

    for seed in range(4):
        (result,) = executor.execute([images(3, seed)])
        np.testing.assert_array_equal(result, net(images(3, seed)))
    runs = [entry for entry in gpu.log if entry in ("run", "capture", "launch")]
    assert runs == ["run", "capture", "launch", "launch", "launch"]


def test_batch_sizes_have_memory_of_their_own(net: Session, stand_in: Callable[..., Any]) -> None:
    executor = on(stand_in(), net)

    for batch in (1, 5, 2, 5, 1):
        np.testing.assert_array_equal(executor.execute([images(batch)])[0], net(images(batch)))


def test_tensors_on_the_device_are_read_in_place_and_results_stay_there(
    net: Session, stand_in: Callable[..., Any]
) -> None:
    gpu = stand_in()
    executor = on(gpu, net)
    given = images(2)
    address = gpu.allocate(given.nbytes)
    gpu.upload(address, given.ctypes.data, given.nbytes)
    gpu.log.clear()

    class OnDevice(DeviceArray):
        pass

    for _ in range(3):
        (result,) = executor.execute([OnDevice(address, given.shape, "float32", gpu.kind)])
        assert isinstance(result, DeviceArray)
        np.testing.assert_array_equal(np.from_dlpack(result), net(given))
    assert "upload" not in gpu.log and "download" not in gpu.log
    assert gpu.log.count("copy") == 3  # the outputs alone


def test_an_array_that_a_consumer_holds_stays_alive(net: Session, stand_in: Callable[..., Any]) -> None:
    gpu = stand_in()
    before = len(gpu.held)
    array = DeviceArray(gpu.allocate(16), (4,), "float32", gpu.kind, gpu.free)
    view = np.from_dlpack(array)
    del array

    assert len(gpu.held) == before + 1
    del view
    assert len(gpu.held) == before


def test_all_memory_is_given_back(net: Session, stand_in: Callable[..., Any]) -> None:
    gpu = stand_in()
    executor = on(gpu, net)
    for _ in range(3):
        executor.execute([images(2)])
    executor.close()

    assert not gpu.held
    assert gpu.log.count("destroy") == 1


def test_too_large_a_batch_is_refused_and_smaller_ones_run(net: Session, stand_in: Callable[..., Any]) -> None:
    gpu = stand_in(limit=2**21)
    executor = on(gpu, net)

    with pytest.raises(RuntimeFault, match="R0207"):
        executor.execute([images(2000)])
    np.testing.assert_array_equal(executor.execute([images(1)])[0], net(images(1)))


def test_wrong_shapes_and_types_are_faults(net: Session, stand_in: Callable[..., Any]) -> None:
    executor = on(stand_in(), net)

    with pytest.raises(RuntimeFault, match="R0204"):
        executor.execute([np.zeros((1, 1, 9, 9), np.float32)])
    with pytest.raises(RuntimeFault, match="R0203"):
        executor.execute([images(1).astype(np.float64)])
    with pytest.raises(RuntimeFault, match="R0208"):
        executor.run({"nothing": images(1)})


def test_a_profile_has_a_line_for_each_step(net: Session, stand_in: Callable[..., Any]) -> None:
    executor = on(stand_in(), net)
    (name,) = (spec.name for spec in executor.program.inputs)

    assert [t.seconds for t in executor.profile({name: images(2)}, 2)] == [1e-3] * len(executor.program.steps)


def test_inputs_that_are_expected_are_copied_aside_and_read_where_they_arrive(
    net: Session, stand_in: Callable[..., Any]
) -> None:
    gpu = stand_in()
    executor = on(gpu, net)
    (name,) = (spec.name for spec in executor.program.inputs)
    batches = [images(3, seed) for seed in range(6)]
    executor.expect({name: batches[0]})
    gpu.log.clear()

    for batch, after in zip(batches, [*batches[1:], None], strict=True):
        if after is not None:
            executor.expect({name: after})
        np.testing.assert_array_equal(executor.execute([batch])[0], net(batch))
    assert "upload" not in gpu.log
    assert gpu.log.count("upload aside") >= 5 and gpu.log.count("wait") == 6
    assert gpu.log.count("capture") == 2  # one for each set of places
    executor.close()
    assert not gpu.held


def test_what_was_expected_and_does_not_come_makes_no_difference(net: Session, stand_in: Callable[..., Any]) -> None:
    executor = on(stand_in(), net)
    (name,) = (spec.name for spec in executor.program.inputs)

    for seed in range(4):
        executor.expect({name: images(3, 100 + seed), "nothing": images(1)})
        executor.expect({name: images(2).astype(np.float64)})
        np.testing.assert_array_equal(executor.execute([images(3, seed)])[0], net(images(3, seed)))


def test_without_room_for_a_second_set_of_places_the_first_serves(net: Session, stand_in: Callable[..., Any]) -> None:
    gpu = stand_in()
    executor = on(gpu, net)
    (name,) = (spec.name for spec in executor.program.inputs)
    executor.execute([images(3)])
    gpu.limit = 0

    for seed in range(3):
        batch = images(3, seed)
        executor.expect({name: batch})
        np.testing.assert_array_equal(executor.execute([batch])[0], net(batch))


def test_programs_share_weights_on_the_device_and_changes_reach_both_sides(
    net: Session, stand_in: Callable[..., Any]
) -> None:
    gpu = stand_in()
    memory = DeviceMemory(gpu)
    artifact = net._artifact
    weights = {name: aligned_copy(array) for name, array in artifact.weights.items()}
    one, two = (
        DeviceExecutor(artifact.manifest.program, load_code(artifact.code), weights, memory=memory) for _ in range(2)
    )

    assert len(gpu.held) == len(weights)
    name, array = next((n, a) for n, a in weights.items() if a.ndim > 1)
    array[...] = 0
    memory.upload([array])
    np.testing.assert_array_equal(one.execute([images(2)])[0], two.execute([images(2)])[0])
    assert np.abs(one.execute([images(2)])[0] - net(images(2))).max() > 0
    array[...] = 1
    memory.download()
    assert not array.any()
    one.close()
    assert not two.download(name).any()
    two.close()
    memory.close()
    assert not gpu.held


def test_memory_of_results_that_nobody_holds_is_used_again(net: Session, stand_in: Callable[..., Any]) -> None:
    gpu = stand_in()
    executor = on(gpu, net)
    given = images(2)
    address = gpu.allocate(given.nbytes)
    gpu.upload(address, given.ctypes.data, given.nbytes)
    held = executor.execute([DeviceArray(address, given.shape, "float32", gpu.kind)])[0]
    before = len(gpu.held)

    for _ in range(3):
        (result,) = executor.execute([DeviceArray(address, given.shape, "float32", gpu.kind)])
        assert result.address != held.address
        np.testing.assert_array_equal(np.from_dlpack(result), net(given))
        del result
    assert len(gpu.held) == before + 1
    assert gpu.log.count("finish") == 2
    executor.close()
    del held
    assert list(gpu.held) == [address]


def test_a_session_copies_the_next_batch_while_it_computes_with_one(
    net: Session, stand_in: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [images(3, seed) for seed in range(4)] + [images(2)]
    expected = [net(batch) for batch in batches]
    gpu = stand_in()
    session = Session(net._artifact)
    monkeypatch.setattr(session, "_executor", on(gpu, net))
    gpu.log.clear()

    found = list(session.each((batch,) if i % 2 else batch for i, batch in enumerate(batches)))

    for result, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(result, right)
    assert gpu.log.count("upload aside") == 4 and gpu.log.count("upload") == 1
    assert list(net.each([])) == []
