"""Weights that are brought into cache early: which kernels do so, and that they still compute the same."""

import pytest

from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.object_code import compile_functions
from dlc.compiler.codegen.target import Target
from dlc.compiler.ir import Graph, N
from dlc.compiler.ops import add, conv2d, relu
from dlc.compiler.passes import PackWeights


def convolution(given, weight, size, inputs, channels, kernel):
    x, w = given("x", N, size, size, inputs), weight("w", channels, inputs, kernel, kernel)
    y = relu(conv2d(x, w, padding=kernel // 2))
    return PackWeights(Target.parse("cpu").lanes)(Graph("g", (x,), {"y": y}))


@pytest.mark.parametrize(("size", "inputs", "channels", "kernel"), [(7, 48, 72, 3), (14, 64, 136, 1), (5, 17, 40, 3)])
def test_kernels_that_prefetch_weights_compute_the_same(given, weight, check_compiled, size, inputs, channels, kernel):
    compiled = check_compiled(convolution(given, weight, size, inputs, channels, kernel))

    assert "dlc_prefetch" in compiled.script()


def test_results_and_what_is_added_to_them_are_prefetched(given, weight, check_compiled):
    x, r, w = given("x", N, 60, 59, 33), given("r", N, 60, 59, 96), weight("w", 96, 33, 1, 1)
    graph = PackWeights(Target.parse("cpu").lanes)(Graph("g", (x, r), {"y": relu(add(conv2d(x, w), r))}))

    script = check_compiled(graph).script()

    assert "dlc_prefetch_write" in script
    assert "dlc_prefetch_read" in script


def test_a_kernel_with_hundreds_of_tiles_for_each_weight_does_not_prefetch(given, weight):
    compiled = compile_graph(convolution(given, weight, 224, 16, 32, 1), Target.parse("cpu"), batch=1)

    assert "dlc_prefetch_weights" not in compiled.script()


@pytest.mark.parametrize("name", ["x86-64-v3", "aarch64"])
def test_other_processors_prefetch_too(given, weight, name):
    compiled = compile_graph(convolution(given, weight, 7, 64, 64, 3), Target.parse(name), batch=1)

    assert "dlc_prefetch" in compiled.script()
    assert compile_functions(compiled.functions, Target.parse(name), lambda done: None)  # LLVM takes it
