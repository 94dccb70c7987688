"""What kernels for GPUs compute, found out without one: their CUDA source runs as coroutines on the processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import dlc
from dlc import api
from dlc.compiler.build import build_inference
from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.compiled import Compiled
from dlc.compiler.codegen.target import Target
from dlc.compiler.folding import folding
from dlc.compiler.initial import initial_state, initial_weights
from dlc.compiler.interpret import bind_batch
from dlc.compiler.ir import Graph, Input, Op, TensorType, apply, source
from dlc.compiler.network import inference_form
from dlc.compiler.ops.elementwise import add, greater_equal, multiply, where
from dlc.compiler.ops.reduction import mean, reduce_max, reduce_sum
from dlc.compiler.ops.samples import arrays, bound, operators
from dlc.compiler.passes import PackWeights, Simplify
from dlc.compiler.pipeline import compile_training, pack
from dlc.runtime.arrays import aligned_copy
from dlc.runtime.executor import Executor

ELSEWHERE = ("convolution", "linear", "winograd", "pair", "warp")
"""What the names of modules begin with whose operators are matrix products, which have tests of their own, or which no GPU runs."""

OPERATORS = [o for o in operators() if not o.__module__.rpartition(".")[2].startswith(ELSEWHERE)]

SPECS = Path(dlc.__file__).parent / "specs"
Emulated = Callable[[Compiled], Callable[[str], Callable[..., None]]]


def executors(host: Compiled, device: Compiled, weights: dict[str, np.ndarray], emulated: Emulated) -> list[Executor]:
    """The two programs, each with its own copy of the weights."""
    program = msgspec.structs.replace(device.program, device="cpu")
    made = []
    for run, compiled, function in ((host.program, host, host.function), (program, device, emulated(device))):
        made.append(Executor(run, function, {n: aligned_copy(a) for n, a in pack(compiled, weights).items()}))
    return made


def test_the_forward_pass_gives_the_processors_numbers(emulated: Emulated) -> None:
    network = folding(inference_form(api.one_network(SPECS / "lenet5.dlspec", model="LeNet5"))).network
    graph = Simplify()(build_inference(network))
    targets = Target.parse("cpu"), Target.parse("cuda:sm_90")
    host, device = (compile_graph(PackWeights(t.lanes)(graph), t, batch=3) for t in targets)
    right, found = executors(host, device, api.fresh_weights(network), emulated)
    images = np.random.default_rng(0).standard_normal((3, 1, 32, 32), np.float32)

    np.testing.assert_allclose(found.execute([images])[0], right.execute([images])[0], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_training_steps_give_the_processors_numbers(emulated: Emulated) -> None:
    recipe = api.recipe_of(SPECS / "lenet5.dlspec", settings=["train.batch=6"])
    host, device = (compile_training(recipe, Target.parse(t), recipe.batch) for t in ("cpu", "cuda:sm_90"))
    weights = {**initial_weights(recipe.network, recipe), **initial_state(recipe)}
    right, found = executors(host, device, weights, emulated)
    generator = np.random.default_rng(0)

    for step in range(2):
        inputs: dict[str, Any] = {}
        for spec in host.program.inputs:
            if len(spec.shape) == 4:
                inputs[spec.name] = generator.standard_normal(spec.shape, np.float32)
            elif spec.shape:
                inputs[spec.name] = generator.integers(0, 10, spec.shape).astype(spec.dtype)
            else:
                inputs[spec.name] = np.asarray(0.1 if spec.dtype == "float32" else step, spec.dtype)
        expected = right.run(inputs)
        for name, array in found.run(inputs).items():
            np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-4, err_msg=name)


def device_program(graph: Graph, emulated: Emulated) -> tuple[Compiled, Executor]:
    """A graph compiled for GPUs, and what runs it here."""
    compiled = compile_graph(graph, Target.parse("cuda:sm_90"), batch=4)
    program = msgspec.structs.replace(compiled.program, device="cpu")
    constants = {name: aligned_copy(array) for name, array in compiled.constants.items()}
    return compiled, Executor(program, emulated(compiled), constants)


LONG = {
    "columns in two stages": ((4, 33, 32, 24), (0, 1, 2)),
    "few columns": ((4, 28, 28, 6), (0, 1, 2)),
    "columns of each sample": ((4, 7, 7, 64), (1, 2)),
    "short columns": ((4, 5, 14, 36), (1,)),
    "a prime number of columns": ((4, 9, 10, 37), (0, 1, 2)),
    "rows": ((4, 1000), (1,)),
    "short rows": ((4, 3, 10), (2,)),
    "everything": ((4, 60, 50, 11), (0, 1, 2, 3)),
    "everything, and little": ((4,), (0,)),
}


def test_sums_of_all_shapes_are_right_and_shared_out(emulated: Emulated) -> None:
    inputs, outputs = [], {}
    for name, (shape, axes) in LONG.items():
        x = source(Input(name, TensorType(shape)))
        inputs.append(x)
        outputs[f"sum of {name}"] = add(reduce_sum(multiply(x, x), axes), 1.0)
        outputs[f"mean of {name}"] = mean(x, axes)
        outputs[f"max of {name}"] = reduce_max(x, axes)
    compiled, executor = device_program(Graph("sums", tuple(inputs), outputs), emulated)
    generator = np.random.default_rng(0)
    given = {name: generator.standard_normal(shape).astype(np.float32) for name, (shape, _) in LONG.items()}

    found = executor.run(given)
    for name, (_, axes) in LONG.items():
        exact = given[name].astype(np.float64)
        for kind, right in (("sum", (exact**2).sum(axes) + 1), ("mean", exact.mean(axes)), ("max", exact.max(axes))):
            np.testing.assert_allclose(
                found[f"{kind} of {name}"], right, rtol=1e-5, atol=1e-6, err_msg=f"{kind} {name}"
            )
    assert set(compiled.rules.values()) == {"ReductionRule"}


def test_truths_in_memory_are_bytes_that_vectors_of_threads_write_and_read(emulated: Emulated) -> None:
    x = source(Input("x", TensorType((4, 3, 8))))
    mask = greater_equal(x, 0.0)
    once = where(mask, multiply(x, 2.0), 0.0)
    rows = reduce_sum(once, (0, 1))  # ends the kernel: what reads the mask afterwards reads it from memory
    y = where(mask, add(x, rows), 1.0)
    graph = Graph("truths", (x,), {"mask": mask, "once": once, "y": y})
    compiled, executor = device_program(graph, emulated)
    given = np.random.default_rng(0).standard_normal((4, 3, 8)).astype(np.float32)

    found = executor.run({"x": given})
    right = given >= 0
    once_right = np.where(right, 2 * given, 0)
    np.testing.assert_array_equal(found["mask"], right)
    np.testing.assert_array_equal(found["once"], once_right)
    np.testing.assert_allclose(found["y"], np.where(right, given + once_right.sum((0, 1)), 1), rtol=1e-6)
    source_text = compiled.code.source  # type: ignore[attr-defined]  # CudaCode
    assert "bool*" not in source_text and "float4" in source_text
    assert found["mask"].dtype == bool


@pytest.mark.slow
@pytest.mark.parametrize("op", OPERATORS, ids=lambda o: o.__name__)
def test_an_operator_gives_what_its_reference_gives(op: type[Op], emulated: Emulated) -> None:
    samples = list(op.samples())
    inputs, outputs, given = [], {}, {}
    for number, sample in enumerate(samples):
        operands = [source(Input(f"x{number}.{i}", bound(t, 4))) for i, t in enumerate(sample.operands)]
        inputs += operands
        outputs[f"y{number}"] = apply(bind_batch(sample.op, 4), *operands)
        given |= {o.op.key: np.asarray(a, order="C") for o, a in zip(operands, arrays(sample, 4), strict=True)}  # type: ignore[attr-defined]  # Input
    compiled, executor = device_program(Graph("samples", tuple(inputs), outputs), emulated)

    found = executor.run(given)
    for number, sample in enumerate(samples):
        right = bind_batch(sample.op, 4).reference(*arrays(sample, 4))
        if not np.issubdtype(right.dtype, np.floating) or "random" in sample.op.name:
            np.testing.assert_array_equal(found[f"y{number}"], right)
        else:
            scale = float(np.abs(right).max(initial=1.0))
            np.testing.assert_allclose(
                found[f"y{number}"], right, rtol=2e-5, atol=2e-6 * scale, err_msg=repr(sample.op)
            )
    assert {"Fallback", "OneThreadPerResult"}.isdisjoint(compiled.rules.values())
