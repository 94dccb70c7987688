"""Artifacts: whole or refused, and never half written."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load as load_safetensors

from dlc.runtime import artifact as module
from dlc.runtime.artifact import Artifact, TargetSpec, digest, load_artifact, read_manifest, save_artifact
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.library import load_code
from dlc.runtime.session import Session, load
from tests.runtime.conftest import samples


@pytest.fixture
def path(artifact: Artifact, tmp_path: Path) -> Path:
    path = tmp_path / "pair.dlc"
    save_artifact(path, artifact)
    return path


def test_an_artifact_comes_back_as_it_was_saved(artifact: Artifact, path: Path) -> None:
    loaded = load_artifact(path)

    assert loaded.manifest == artifact.manifest == read_manifest(path)
    assert bytes(loaded.code) == artifact.code
    assert list(loaded.weights) == ["bias"]
    np.testing.assert_array_equal(loaded.weights["bias"], artifact.weights["bias"])
    assert loaded.weights["bias"].ctypes.data % 64 == 0


def test_saving_is_deterministic_and_a_loaded_artifact_saves_the_same_bytes(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.dlc"
    load(path).save(copy)

    assert copy.read_bytes() == path.read_bytes()


def test_an_artifact_replaces_itself_while_it_is_loaded(path: Path) -> None:
    session = load(path)
    before = session(*samples(2))["sum"]

    session.save(path)

    np.testing.assert_array_equal(session(*samples(2))["sum"], before)
    np.testing.assert_array_equal(load(path)(*samples(2))["sum"], before)


def test_weights_are_mapped_not_copied_and_writing_them_leaves_the_file_alone(path: Path) -> None:
    before = path.read_bytes()
    weights = load_artifact(path).weights["bias"]
    base = weights.base
    while isinstance(base, np.ndarray):
        base = base.base

    weights[0] = 77

    assert isinstance(base, memoryview)
    assert path.read_bytes() == before


def test_the_weights_are_a_safetensors_file(artifact: Artifact, path: Path) -> None:
    data = path.read_bytes()
    start = data.index(b'{"bias"') - 8

    weights = load_safetensors(data[start:])

    np.testing.assert_array_equal(weights["bias"], artifact.weights["bias"])


def test_every_changed_byte_that_counts_is_noticed(artifact: Artifact, path: Path) -> None:
    whole = path.read_bytes()
    manifest_end = 64 + int.from_bytes(whole[12:16], "little")
    gap = range(manifest_end, -(-manifest_end // 64) * 64)
    places = {*range(64), *random.Random(0).sample(range(64, len(whole)), 300)} - set(gap)
    for place in sorted(places):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        try:
            loaded = load_artifact(path)
        except RuntimeFault as fault:
            assert fault.code in ("R0102", "R0103", "R0104", "R0105")
        else:  # it lies in the gap between code and weights
            assert bytes(loaded.code) == artifact.code
            np.testing.assert_array_equal(loaded.weights["bias"], artifact.weights["bias"])


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 40, 63, 64, 65, 500, 5000, -1])
def test_files_cut_off_anywhere_are_refused(path: Path, keep: int) -> None:
    data = path.read_bytes()[:keep]
    path.write_bytes(data)

    with pytest.raises(RuntimeFault) as caught:
        load(path)

    assert caught.value.code in ("R0102", "R0104")
    assert str(path) in caught.value.message


def test_what_is_appended_is_noticed(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")

    with pytest.raises(RuntimeFault, match=r"R0104.*\n?.*too long"):
        load(path)


def test_other_files_and_places_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.dlc"
    other.write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(RuntimeFault, match="is not a dlc artifact"):
        load(other)
    with pytest.raises(RuntimeFault, match=r"R0101.*No such file"):
        load(tmp_path / "missing.dlc")
    with pytest.raises(RuntimeFault, match=r"R0101.*Is a directory"):
        load(tmp_path)


def test_other_versions_are_named(path: Path, artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORMAT", 99)
    save_artifact(path, artifact)
    monkeypatch.undo()

    with pytest.raises(RuntimeFault, match="format 99, made by a newer dlc; this one reads format 2"):
        load(path)


def test_a_manifest_that_this_version_does_not_know_is_refused(
    path: Path, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.msgspec.json, "encode", lambda value: b'{"manifest": {"model": 3}}')
    save_artifact(path, artifact)
    monkeypatch.undo()

    with pytest.raises(RuntimeFault, match="R0103"):
        load(path)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (TargetSpec("cpu", "riscv64-linux-gnu", "generic"), "holds code for riscv64, this machine is"),
        (TargetSpec("cpu", "{machine}", "future", ("amx-fp16x", "amx-tile", "sve2")), "needs a processor with"),
    ],
)
def test_artifacts_for_other_processors_are_refused(
    path: Path, artifact: Artifact, target: TargetSpec, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    triple = target.triple.replace("{machine}", artifact.manifest.target.triple)
    manifest = msgspec.structs.replace(artifact.manifest, target=msgspec.structs.replace(target, triple=triple))
    save_artifact(path, Artifact(manifest, artifact.code, artifact.weights))
    monkeypatch.setattr("dlc.runtime.device.cpu_features", lambda: frozenset())

    with pytest.raises(RuntimeFault, match="R0107") as caught:
        load(path)

    assert text in caught.value.message
    assert read_manifest(path).target.cpu == target.cpu


def test_cuda_artifacts_say_what_is_missing(path: Path, artifact: Artifact) -> None:
    program = msgspec.structs.replace(artifact.manifest.program, device="cuda")
    save_artifact(
        path, Artifact(msgspec.structs.replace(artifact.manifest, program=program), artifact.code, artifact.weights)
    )

    with pytest.raises(RuntimeFault, match=r"R0108.*compiled for cuda"):
        load(path)


def test_each_artifact_gets_its_own_code_though_file_handles_are_used_again(artifact: Artifact, code: bytes) -> None:
    first = load_code(code)
    without = load_code(code.replace(b"__tvm_ffi_subtract", b"__tvm_ffi_subtrakt"))
    again = load_code(code)

    assert first("subtract") and again("subtract")
    with pytest.raises(RuntimeFault, match="R0503"):
        without("subtract")


def test_machine_code_that_is_none_is_refused(artifact: Artifact) -> None:
    session = Session(artifact)
    assert session.threads
    with pytest.raises(RuntimeFault, match="R0502"):
        Session(Artifact(artifact.manifest, b"not a shared object", artifact.weights))


def test_loading_leaves_no_file_and_no_handle_behind(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    load(path)(*samples(1))
    handles = len(os.listdir("/proc/self/fd"))

    for _ in range(5):
        load(path)(*samples(1))

    assert len(os.listdir("/proc/self/fd")) <= handles
    monkeypatch.delattr("os.memfd_create")  # other systems have no files in memory
    load(path)(*samples(1))
    assert list(folder.iterdir()) == []


def test_a_failed_write_leaves_the_old_artifact_and_no_rest(path: Path) -> None:
    before = path.read_bytes()
    script = (
        "import signal, resource, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from dlc.runtime.session import load; net = load(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))\n"
        "try: net.save(sys.argv[1])\n"
        "except Exception as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)

    assert "R0110" in done.stdout and "File too large" in done.stdout
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["pair.dlc"]


def test_a_full_disk_is_a_fault_with_advice(artifact: Artifact, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RuntimeFault, match=r"No space left on device[\s\S]*free some space"):
        save_artifact(path, artifact)

    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_places_that_cannot_be_written_are_named(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault, match=r"R0110[\s\S]*make the folder first"):
        save_artifact(tmp_path / "no" / "pair.dlc", artifact)
    with pytest.raises(RuntimeFault, match=r"R0110[\s\S]*not of a folder"):
        save_artifact(tmp_path, artifact)


def test_digests_of_large_parts_do_not_depend_on_the_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    data = memoryview(np.random.default_rng(0).bytes(20 * 2**20))
    many = digest(data)
    monkeypatch.setattr("dlc.runtime.threads.available", lambda: 1)

    assert digest(data) == many
    assert digest(data[:-1]) != many
