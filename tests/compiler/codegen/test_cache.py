"""The cache of machine code: what it saves, what makes its entries differ, damage, limits, writers at the same time."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dlc.compiler.codegen import cache as cache_module
from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.cache import BuildOptions, Cache, user_cache
from dlc.compiler.codegen.target import Target
from dlc.compiler.codegen.workload import digest
from dlc.compiler.ir import DType, Graph, N, TensorType
from dlc.compiler.ops import elementwise as e
from dlc.compiler.ops.convolution import Conv2d
from dlc.compiler.ops.functions import relu, tanh
from dlc.compiler.ops.reduction import mean


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path)


def graph(given, number=2.0):
    x = given("x", N, 6)
    y = tanh(e.multiply(x, number))
    return Graph("g", (x,), {"y": y, "m": mean(e.multiply(y, y), (1,))})


def compiled(graph, cache, target="cpu", batch=None):
    made = compile_graph(graph, Target.parse(target, cache), batch=batch, options=BuildOptions(cache))
    return made, made.library()


def kernels(cache):
    return sorted((cache.folder / "kernels").iterdir())


def test_what_the_cache_holds_is_neither_scheduled_nor_compiled_and_is_the_same(given, cache):
    first, library = compiled(graph(given), cache)
    second, again = compiled(graph(given), cache)

    assert first.functions and not second.functions
    assert library == again
    assert first.program == second.program
    assert first.rules == second.rules
    plain = compile_graph(graph(given), Target.parse("cpu"))
    assert plain.program == first.program
    assert plain.library() == library


def test_cached_kernels_run_in_this_process(given, cache):
    compiled(graph(given), cache)
    made, _ = compiled(graph(given), cache)
    from dlc.runtime.executor import Executor

    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6)
    result = Executor(made.program, made.function, {}, 1).run({"x": x})

    np.testing.assert_allclose(result["y"], np.tanh(2 * x), rtol=1e-5)


def test_models_share_kernels(given, cache):
    compiled(graph(given), cache)
    x = given("pixels", N, 6)
    y = tanh(e.multiply(x, 2.0))
    outputs = {"first": y, "second": mean(e.multiply(y, y), (1,)), "third": mean(relu(x), (1,))}
    other, _ = compiled(Graph("other", (x,), outputs), cache)

    assert [n for n in other.functions if "relu" in n] == list(other.functions)
    assert len({s.kernel for s in other.program.steps}) > 1


def test_a_program_for_one_sample_takes_the_variants_that_another_has_for_it(given, weight, cache):
    from dlc.compiler.ops.linear import linear

    x = given("x", N, 64)
    y = Graph("g", (x,), {"y": linear(x, weight("w", 32, 64))})
    first, _ = compiled(y, cache)
    assert first.program.steps[0].kernel_one

    second, _ = compiled(y, cache, batch=1)

    assert second.program.steps[0].kernel == first.program.steps[0].kernel_one
    assert not second.functions


def test_constants_targets_and_compilers_make_entries_of_their_own(given, cache, monkeypatch):
    compiled(graph(given), cache)
    count = len(kernels(cache))

    assert compiled(graph(given, 3.0), cache)[0].functions
    more = len(kernels(cache))
    assert more > count
    assert compiled(graph(given), cache, "x86-64-v3")[0].functions
    assert len(kernels(cache)) > more
    monkeypatch.setattr("dlc.compiler.codegen.compiled.compiler_version", lambda: "another")
    assert compiled(graph(given), cache)[0].functions


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: b"", lambda d: d[:60] + b"\x00\x01" + d[62:]])
def test_damaged_entries_are_made_again(given, cache, damage):
    _, library = compiled(graph(given), cache)
    for path in kernels(cache):
        path.write_bytes(damage(path.read_bytes()))
    made, again = compiled(graph(given), cache)

    assert made.functions
    assert again == library
    assert not compiled(graph(given), cache)[0].functions


def test_an_entry_of_another_form_is_made_again(given, cache):
    _, library = compiled(graph(given), cache)
    for path in kernels(cache):
        cache.put("kernels", path.name, b"no msgpack")
    for path in (cache.folder / "targets").iterdir():
        cache.put("targets", path.name, b"{}")

    assert compiled(graph(given), cache)[1] == library


def test_the_longest_unused_entries_go_first(tmp_path):
    cache = Cache(tmp_path, limit=4000)
    for i in range(6):
        cache.put("kernels", f"k{i}", bytes(900))
        os.utime(tmp_path / "kernels" / f"k{i}", (i, i))
    assert cache.get("kernels", "k0") == bytes(900)  # used just now
    cache.trim()

    assert {p.name for p in kernels(cache)} == {"k0", "k4", "k5"}
    assert cache.usage().size <= cache.limit


def test_only_the_own_folder_is_emptied(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = tmp_path / "dlc" / "data" / "cifar.tar"
    data.parent.mkdir(parents=True)
    data.write_bytes(b"downloaded")
    found = user_cache()
    found.put("kernels", "k", b"1")

    assert found.clear().entries == 1
    assert found.usage() == (0, 0)
    assert data.exists()


def test_what_dead_writers_left_goes(tmp_path):
    cache = Cache(tmp_path)
    cache.put("kernels", "k", b"1")
    for name, age in ((".old.tmp", 7200), (".new.tmp", 0)):
        path = tmp_path / "kernels" / name
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    cache.trim()

    assert {p.name for p in kernels(cache)} == {"k", ".new.tmp"}


def test_writers_and_readers_at_the_same_time_see_whole_entries(tmp_path):
    cache = Cache(tmp_path, limit=200_000)
    contents = {f"k{i}": bytes([i]) * 20_000 for i in range(20)}

    def use(worker):
        for name, content in contents.items():
            cache.put("kernels", name, content)
            assert cache.get("kernels", name) in (content, None)
            cache.trim()
        return worker

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(use, range(8))) == list(range(8))
    assert all(not p.name.endswith(".tmp") for p in kernels(cache))


def test_a_full_or_missing_folder_only_means_that_nothing_is_kept(given, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    made, library = compiled(graph(given), Cache(blocked))

    assert made.functions
    assert library


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = user_cache()
    assert found is not None
    assert found.folder == tmp_path / "dlc" / "compiled"
    assert found.folder.stat().st_mode & 0o777 == 0o700

    found.folder.chmod(0o777)

    assert user_cache() is None


def test_a_relative_cache_home_is_ignored(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))

    assert cache_module.cache_folder() == tmp_path / ".cache" / "dlc" / "compiled"


PROCESS = """
import sys
from dlc import api
api.compile_to_file({spec!r}, {out!r}, model="LeNet5")
assert ("tvm" in sys.modules) == {tvm}, "tvm" in sys.modules
"""


def test_a_process_that_finds_all_kernels_does_without_tvm(tmp_path):
    import dlc

    spec = os.path.join(os.path.dirname(dlc.__file__), "specs", "lenet5.dlspec")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    files = []
    for number, tvm in enumerate((True, False)):
        out = str(tmp_path / f"{number}.dlc")
        code = PROCESS.format(spec=spec, out=out, tvm=tvm)
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        files.append((tmp_path / f"{number}.dlc").read_bytes())

    assert files[0] == files[1]


def test_several_processes_may_fill_the_cache_at_once(tmp_path):
    import dlc

    spec = os.path.join(os.path.dirname(dlc.__file__), "specs", "lenet5.dlspec")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    outs = [str(tmp_path / f"{i}.dlc") for i in range(3)]
    codes = [PROCESS.format(spec=spec, out=out, tvm=True) for out in outs]
    running = [subprocess.Popen([sys.executable, "-c", code], env=environment) for code in codes]

    assert [p.wait() for p in running] == [0, 0, 0]
    assert len({Path(out).read_bytes() for out in outs}) == 1


def test_digests_are_the_same_in_every_process():
    op = Conv2d(channels=6, kernel=(5, 5), stride=(1, 1), padding=(0, 0, 0, 0))
    parts = (op, TensorType((N, 4), DType.INT32), frozenset("abc"), np.arange(3), 1.5, None, b"x")
    code = (
        "import numpy as np\n"
        "from dlc.compiler.codegen.workload import digest\n"
        "from dlc.compiler.ir import DType, N, TensorType\n"
        "from dlc.compiler.ops.convolution import Conv2d\n"
        "op = Conv2d(channels=6, kernel=(5, 5), stride=(1, 1), padding=(0, 0, 0, 0))\n"
        "print(digest(op, TensorType((N, 4), DType.INT32), frozenset('abc'), np.arange(3), 1.5, None, b'x'))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)

    assert said.stdout.strip() == digest(*parts)


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), ("1", 1), ((1, 2), ((1,), 2)), (np.zeros(2), np.zeros((2, 1))), (None, "None")]
)
def test_what_differs_has_another_digest(one, other):
    assert digest(one) != digest(other)


def test_what_cannot_be_told_apart_is_refused():
    with pytest.raises(TypeError, match="no spelling"):
        digest(object())
