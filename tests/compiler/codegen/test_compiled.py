"""Whole networks through code generation: rules for every kernel, the library, its errors."""

import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from dlc.compiler.autodiff import gradients
from dlc.compiler.codegen import build, compile_graph, linker, scheduling
from dlc.compiler.codegen.driver import DRIVER, driver
from dlc.compiler.codegen.function import module_of
from dlc.compiler.codegen.target import Target
from dlc.compiler.errors import DlcError
from dlc.compiler.ir import Graph, N
from dlc.compiler.ops import elementwise as e
from dlc.compiler.ops.convolution import conv2d
from dlc.compiler.ops.functions import relu, tanh
from dlc.compiler.ops.linear import linear
from dlc.compiler.ops.normalization import batch_norm_inference, batch_norm_training
from dlc.compiler.ops.pooling import avg_pool, max_pool
from dlc.compiler.ops.reduction import mean
from dlc.compiler.ops.shape import flatten, transpose
from dlc.compiler.passes import PackWeights, Simplify
from dlc.runtime.library import load_code


def lenet(given, weight, batch=N):
    x = given("image", batch, 1, 32, 32)
    y = transpose(x, (0, 2, 3, 1))
    for i, (channels, inputs) in enumerate(((6, 1), (16, 6))):
        y = tanh(e.add(conv2d(y, weight(f"c{i}.weight", channels, inputs, 5, 5)), weight(f"c{i}.bias", channels)))
        y = avg_pool(y, 2)
    y = flatten(y)
    for i, (features, inputs) in enumerate(((120, 400), (84, 120), (10, 84))):
        y = e.add(linear(y, weight(f"f{i}.weight", features, inputs)), weight(f"f{i}.bias", features))
        y = tanh(y) if i < 2 else y
    return Graph("LeNet5", (x,), {"logits": y})


def resnet(given, weight, batch=N, training=False):
    """A residual network in small: a stem, a plain block and one with stride and projection."""
    x = given("image", batch, 3, 24, 24)

    def conv_norm(y, key, channels, kernel, stride=1):
        y = conv2d(
            y, weight(f"{key}.weight", channels, y.type.shape[3], kernel, kernel), stride=stride, padding=kernel // 2
        )
        vectors = [weight(f"{key}.{k}", channels) for k in ("gamma", "beta", "mean", "variance")]
        if training:
            return batch_norm_training(y, *vectors[:2])[0]
        return batch_norm_inference(y, *vectors[:3], e.multiply(vectors[3], vectors[3]))

    def block(y, key, channels, stride=1):
        body = conv_norm(relu(conv_norm(y, f"{key}.1", channels, 3, stride)), f"{key}.2", channels, 3)
        short = y if stride == 1 else conv_norm(y, f"{key}.3", channels, 1, stride)
        return relu(e.add(body, short))

    y = max_pool(relu(conv_norm(transpose(x, (0, 2, 3, 1)), "stem", 16, 7, 2)), 3, stride=2, padding=1)
    y = mean(block(block(y, "a", 16), "b", 40, 2), (1, 2))
    return Graph("ResNet", (x,), {"logits": e.add(linear(y, weight("fc.weight", 10, 40)), weight("fc.bias", 10))})


def step(forward):
    """A training step of the mean square, with momentum."""
    (y,) = forward.outputs.values()
    loss = mean(e.multiply(y, y), (0, 1))
    weights = [p for p in Graph("loss", (), {"loss": loss}).parameters]
    updates = {p: e.subtract(p, e.multiply(g, 0.1)) for p, g in zip(weights, gradients(loss, weights), strict=True)}
    return Graph(f"{forward.name}.train", forward.inputs, {"loss": loss}, updates)


def packed(graph, target="cpu"):
    return PackWeights(Target.parse(target).lanes)(Simplify()(graph))


@pytest.mark.parametrize("batch", [1, 3])
def test_lenet_is_seven_kernels_that_compute_what_the_interpreter_does(given, weight, check_compiled, batch):
    result = check_compiled(packed(lenet(given, weight)), batch)

    assert [s.what for s in result.program.steps] == [
        "conv2d+add+tanh", "avg_pool", "conv2d+add+tanh", "avg_pool", "linear+add+tanh", "linear+add+tanh", "linear+add",
    ]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3])
def test_a_residual_network_computes_what_the_interpreter_does(given, weight, check_compiled, batch):
    check_compiled(packed(resnet(given, weight)), batch)


def test_the_training_step_of_lenet_computes_what_the_interpreter_does(given, weight, check_compiled):
    check_compiled(Simplify()(step(packed(lenet(given, weight, 4)))))


def test_the_training_step_of_a_residual_network_computes_what_the_interpreter_does(given, weight, check_compiled):
    check_compiled(Simplify()(step(packed(resnet(given, weight, 4, training=True)))))


@pytest.mark.parametrize("target", ["cpu", "x86-64-v3", "aarch64"])
def test_every_function_is_scheduled_by_a_rule(given, weight, target):
    for graph in (
        packed(lenet(given, weight), target),
        Simplify()(step(packed(lenet(given, weight, 8), target))),
        packed(resnet(given, weight), target),
        Simplify()(step(packed(resnet(given, weight, 8, training=True), target))),
    ):
        result = compile_graph(graph, Target.parse(target))
        called = {name for s in result.program.steps for name in (s.kernel, s.kernel_one) if name}

        assert called == set(result.functions) == set(result.rules)
        assert all(rule.endswith("Rule") for rule in result.rules.values())


def test_a_kernel_that_no_rule_takes_is_named_with_its_layer(given, monkeypatch):
    monkeypatch.setattr(scheduling, "rules", lambda: ())
    x = given("x", N, 4)

    with pytest.raises(
        AssertionError, match=r"no schedule rule takes tanh_[0-9a-f]+ \(anchor elementwise\) of layer \?: tanh"
    ):
        compile_graph(Graph("g", (x,), {"y": tanh(x)}), Target.parse("cpu"))


def small(given):
    x = given("x", N, 6)
    return Graph("g", (x,), {"y": tanh(x), "z": mean(e.multiply(x, x), (1,))})


def test_the_library_runs_without_the_compiler(given):
    result = compile_graph(small(given), Target.parse("cpu"))
    kernel = load_code(result.library())

    for name in (*result.functions, DRIVER):
        assert callable(kernel(name))


def test_the_same_graph_gives_the_same_library_without_a_path_or_debug_information(given, weight):
    first, second = (compile_graph(packed(lenet(given, weight)), Target.parse("x86-64-v3")).library() for _ in range(2))

    assert first == second
    assert b"/tmp" not in first
    assert b"/home" not in first
    assert b".debug_info" not in first


def test_libraries_for_other_processors_need_a_linker_for_them(given, monkeypatch):
    result = compile_graph(small(given), Target.parse("aarch64"))
    monkeypatch.setattr(linker.shutil, "which", lambda name: None)
    monkeypatch.setattr(linker.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(DlcError, match=r"E0852.*no linker for aarch64") as caught:
        result.library()
    assert caught.value.diagnostics[0].help == "pip install ziglang"


def test_a_linker_that_fails_is_an_error_with_its_reason(given, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "ld: cannot find crt.o\n")
    monkeypatch.setattr(build.subprocess, "run", lambda *_, **__: failed)

    with pytest.raises(DlcError, match=r"cannot link: ld: cannot find crt\.o"):
        compile_graph(small(given), Target.parse("cpu")).library()


def test_a_full_disk_is_an_error_before_anything_is_written(given, monkeypatch):
    result = compile_graph(small(given), Target.parse("cpu"))
    monkeypatch.setattr(build.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))

    with pytest.raises(DlcError, match=r"E0859.*is full"):
        result.library()


def test_the_scheduled_functions_can_be_read(given):
    text = compile_graph(small(given), Target.parse("cpu")).script()

    assert "def tanh_" in text
    assert "def multiply_mean_" in text


def test_float_results_do_not_depend_on_the_number_of_samples(given, weight):
    from dlc.runtime.executor import Executor

    result = compile_graph(packed(lenet(given, weight)), Target.parse("cpu"))
    rng = np.random.default_rng(0)
    weights = {s.name: rng.standard_normal(s.shape).astype(np.float32) * 0.1 for s in result.program.weights}
    executor = Executor(result.program, result.function, {k: np.require(_aligned(v)) for k, v in weights.items()}, 1)
    images = rng.standard_normal((5, 1, 32, 32)).astype(np.float32)

    together = executor.run({"image": images})["logits"]
    np.testing.assert_allclose(executor.run({"image": images[:1]})["logits"], together[:1], rtol=1e-5, atol=1e-6)


def _aligned(array):
    from dlc.runtime.arrays import aligned_empty

    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def test_the_driver_beside_a_kernel_does_not_slow_it_down(given, weight):
    compiled = compile_graph(packed(resnet(given, weight, 1)), Target.parse("cpu"), batch=1)
    module = module_of({**compiled.functions, DRIVER: driver()})

    assert {bool(f.attrs["tirx.noalias"]) for f in module.functions.values()} == {True}
