"""Fetching from a local server: whole, in parts, from another mirror, damaged, refused, without room or network."""

import gzip
import hashlib
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from dlc.runtime.data import download
from dlc.runtime.data.download import Remote, cache_folder, fetch
from dlc.runtime.data.sources.mnist import Mnist
from dlc.runtime.errors import RuntimeFault

CONTENT = np.random.default_rng(0).bytes(300_000)
FILE = Remote("file.bin", "sha256:" + hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


class Server(ThreadingHTTPServer):
    """Serves `files`; may refuse parts, break off after some bytes, or fail."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"file.bin": CONTENT}
        self.parts, self.breaks, self.status = True, [], 200
        self.ranges: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        content = self.server.files.get(self.path.strip("/"))
        if content is None or self.server.status != 200:
            self.send_error(404 if content is None else self.server.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.parts else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = self.server.breaks.pop(0) if self.server.breaks else len(content)
        self.wfile.write(content[start : start + stop])
        if stop < len(content):
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()


def test_a_file_is_fetched_once(server, tmp_path):
    seen = []
    found = fetch(FILE, [server.url], tmp_path / "a", lambda name, done, total: seen.append((done, total)))
    again = fetch(FILE, [server.url], tmp_path / "a")

    assert found == again == tmp_path / "a" / "file.bin" and found.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and len(server.ranges) == 1
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["file.bin"]


def test_a_transfer_that_breaks_goes_on_where_it_was(server, tmp_path):
    server.breaks = [100_000, 50_000]

    assert fetch(FILE, [server.url], tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_transfer_goes_on_after_the_process_ended(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1234])

    assert fetch(FILE, [server.url], tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1234-"]


def test_a_server_that_sends_no_parts_sends_the_whole(server, tmp_path):
    server.parts = False
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1234)

    assert fetch(FILE, [server.url], tmp_path).read_bytes() == CONTENT


def test_leftovers_that_are_too_long_are_dropped(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"x" * (len(CONTENT) + 7))

    with pytest.raises(RuntimeFault, match="R0331"):
        fetch(FILE, [server.url], tmp_path)
    assert fetch(FILE, [server.url], tmp_path).read_bytes() == CONTENT


def test_another_mirror_is_asked(server, tmp_path):
    assert fetch(FILE, [f"{server.url}/nothing", server.url], tmp_path).read_bytes() == CONTENT


def test_another_content_is_refused_and_dropped(server, tmp_path):
    server.files["file.bin"] = CONTENT[:-1] + b"?"

    with pytest.raises(RuntimeFault, match=r"R0331.*its checksum is sha256:.*, not sha256:") as caught:
        fetch(FILE, [server.url], tmp_path)
    assert str(tmp_path) in caught.value.help and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("status", "reason"), [(403, "403"), (503, "503")])
def test_a_server_that_refuses_is_named(server, tmp_path, status, reason):
    server.status = status

    with pytest.raises(RuntimeFault, match=f"R0330.*file.bin: {reason}"):
        fetch(FILE, [server.url], tmp_path)


def test_without_a_network_the_fault_says_what_to_place_where(tmp_path, monkeypatch):
    monkeypatch.setattr(Mnist, "mirrors", ("http://127.0.0.1:9",))

    with pytest.raises(RuntimeFault, match=r"R0330.*train-images-idx3-ubyte.gz.*refused") as caught:
        Mnist(cache=str(tmp_path)).load(None)
    assert f"place it in {tmp_path / 'mnist'}" in caught.value.help and "--data DIRECTORY" in caught.value.help


def test_no_room_is_said_before_anything_is_written(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))

    with pytest.raises(RuntimeFault, match=r"R0110.*0 MB free"):
        fetch(FILE, [server.url], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to_is_a_fault(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(RuntimeFault, match="R0110"):
        fetch(FILE, [server.url], tmp_path / "file" / "below")


def test_mnist_comes_from_its_mirror_and_then_from_the_cache(server, tmp_path, monkeypatch):
    images, labels = np.arange(10 * 28 * 28, dtype=np.uint8).reshape(10, 28, 28), np.arange(10, dtype=np.uint8)
    remotes = []
    for remote, array in zip(Mnist.remotes, (images, labels, images, labels), strict=True):
        head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
        packed = gzip.compress(head + array.tobytes())
        server.files[remote.name] = packed
        remotes.append(Remote(remote.name, "md5:" + hashlib.md5(packed).hexdigest(), len(packed)))
    monkeypatch.setattr(Mnist, "remotes", tuple(remotes))
    monkeypatch.setattr(Mnist, "mirrors", (server.url,))

    data = Mnist(cache=str(tmp_path)).load(None)
    again = Mnist(cache=str(tmp_path)).load(None)

    assert np.array_equal(data.train.images[:, 0], images) and np.array_equal(again.test.labels, labels)
    assert len(server.ranges) == 4


def test_the_cache_lies_where_caches_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert cache_folder("mnist", None) == tmp_path / "dlc" / "data" / "mnist"
    assert cache_folder("mnist", "/data") != cache_folder("cifar10", "/data")
