"""CUDA: machine code is made on a machine without a GPU, and lies in the library."""

import struct

import pytest
from tvm.s_tir import Schedule

from dlc.compiler import build as networks
from dlc.compiler.codegen import compile_graph, cuda
from dlc.compiler.codegen.function import lower
from dlc.compiler.codegen.schedules.cuda import schedule_function, uses_threads_only
from dlc.compiler.codegen.target import Target
from dlc.compiler.errors import DlcError
from dlc.compiler.ir import Graph, N
from dlc.compiler.ops import elementwise as e
from dlc.compiler.ops.functions import exp, tanh
from dlc.compiler.ops.linear import linear
from dlc.compiler.ops.reduction import mean, reduce_max
from dlc.compiler.ops.shape import transpose
from dlc.compiler.passes import Fuse, PackWeights, Simplify
from dlc.compiler.training_step import build_training

EM_CUDA = 190


def machine_codes(library):
    """The ELF images inside a library, by their machine: EM_CUDA for NVIDIA's."""
    found, start = [], library.find(b"\x7fELF", 1)
    while start > 0:
        found.append(struct.unpack_from("<H", library, start + 18)[0])
        start = library.find(b"\x7fELF", start + 1)
    return found


@pytest.fixture
def sm_90():
    pytest.importorskip("cuda.bindings.nvfatbin")
    return Target.parse("cuda:sm_90")


def graph(given, weight):
    x = given("x", N, 5, 3)
    y = transpose(exp(e.subtract(x, reduce_max(x, (1,), keep=True))), (0, 2, 1))
    return Graph("g", (x,), {"y": y, "z": mean(tanh(x), (0, 1, 2)), "l": linear(mean(x, (1,)), weight("w", 4, 3))})


def test_the_library_holds_machine_code_for_the_gpu(given, weight, sm_90):
    result = compile_graph(graph(given, weight), sm_90)
    library = result.library()

    assert result.program.device == "cuda"
    assert machine_codes(library) == [EM_CUDA]
    assert result.code.image[0] == "cubin" and result.code.image[1] in library
    assert b"__global__" not in library


def test_the_portable_target_holds_code_for_two_architectures_and_ptx_for_later_ones(given, weight, sm_90):
    code = compile_graph(graph(given, weight), Target.parse("cuda")).code
    form, image = code.image

    assert form == "fatbin" and image in code.library()
    assert machine_codes(image) == [EM_CUDA, EM_CUDA]
    for architecture in ("sm_80", "sm_90"):
        assert cuda.compile_source(code.source, architecture).cubin in image
    assert b"__global__" not in code.library()


def test_the_same_graph_gives_the_same_library(given, weight, sm_90):
    assert compile_graph(graph(given, weight), sm_90).library() == compile_graph(graph(given, weight), sm_90).library()


def test_every_loop_is_bound_to_threads(given, weight):
    target = Target.parse("cuda:sm_90")
    for kernel in Fuse()(graph(given, weight)):
        function = lower(kernel, None, target)
        scheduled, rule = schedule_function(function, target)

        assert rule
        assert uses_threads_only(scheduled)
        assert not uses_threads_only(Schedule(function).mod["main"])


def test_without_nvidias_packages_the_error_names_the_command(given, weight, monkeypatch):
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(DlcError, match="E0853") as caught:
        compile_graph(graph(given, weight), Target.parse("cuda:sm_90")).library()
    assert caught.value.diagnostics[0].help == "pip install 'dlc[cuda]'"


def test_packed_modules_of_another_form_are_not_guessed_at():
    with pytest.raises(AssertionError, match="another form"):
        cuda.with_image(b"\0" * 64 + (6).to_bytes(8, "little") + b"source" + b"more", b"source", "cubin", b"code")


def shipped(name):
    from pathlib import Path

    from dlc import api

    return api, Path(api.__file__).parent / "specs" / name


def trained(recipe, target, batch):
    graph = build_training(recipe, batch, prepare=lambda f: PackWeights(target.lanes)(Simplify()(f)))
    return compile_graph(Simplify()(graph), target)


@pytest.mark.parametrize("spec", ["lenet5.dlspec", "resnet18.dlspec"])
def test_shipped_networks_compile_for_the_gpu(spec, sm_90):
    api, path = shipped(spec)
    graph = PackWeights(sm_90.lanes)(Simplify()(networks.build_inference(api.one_network(path))))

    assert machine_codes(compile_graph(graph, sm_90).library()) == [EM_CUDA]


def test_the_training_step_of_lenet_compiles_for_the_gpu(sm_90):
    api, path = shipped("lenet5.dlspec")

    assert machine_codes(trained(api.recipe_of(path), sm_90, 64).library()) == [EM_CUDA]


def test_the_training_step_of_resnet_18_compiles_for_the_gpu(tmp_path, sm_90):
    api, _ = shipped("resnet18.dlspec")
    spec = tmp_path / "training.dlspec"
    spec.write_text(
        'import "resnet.dlspec" as resnet\nmodel Net = resnet.ResNet18\ndata images { source npz\n resize 224 }\n'
        "train Recipe { model Net\n data images\n loss cross_entropy\n optimizer sgd(lr=0.1, momentum=0.9)\n batch 8\n epochs 1 }\n"
    )

    assert machine_codes(trained(api.recipe_of(spec), sm_90, 8).library()) == [EM_CUDA]
