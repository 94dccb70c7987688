"""Products of matrices for GPUs: convolutions, linear layers and their gradients, on tensor cores and in exact float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dlc.compiler.codegen import compile_graph, cuda
from dlc.compiler.codegen.schedules.cuda import product, tilings
from dlc.compiler.codegen.schedules.cuda.problem import Kind, Problem, Units
from dlc.compiler.codegen.schedules.cuda.tilings import Tiling
from dlc.compiler.codegen.target import CudaTarget, Target
from dlc.compiler.interpret import interpret
from dlc.compiler.ir import DType, Graph, Input, N, Parameter, TensorType, Value, apply, source
from dlc.compiler.ops import elementwise as e
from dlc.compiler.ops.convolution import Conv2d, Conv2dInputGradient, Conv2dWeightGradient
from dlc.compiler.ops.functions import relu
from dlc.compiler.ops.linear import Linear, LinearInputGradient, LinearWeightGradient
from dlc.compiler.ops.pooling import max_pool
from dlc.compiler.ops.slicing import concat
from dlc.compiler.precision import in_precision
from dlc.runtime.arrays import aligned_copy

BATCH = 3
CONVOLUTIONS = [
    (Conv2d(6, (3, 3), padding=(1, 1, 1, 1)), (5, 7, 3)),
    (Conv2d(70, (3, 3), padding=(1, 1, 1, 1), block=1), (6, 5, 8)),
    (Conv2d(16, (3, 3), (2, 2), (1, 1, 1, 1), block=1), (7, 6, 20)),
    (Conv2d(40, (1, 1), (2, 2)), (7, 6, 36)),
    (Conv2d(40, (1, 1)), (7, 6, 36)),
    (Conv2d(10, (7, 7), (2, 2), (3, 3, 3, 3)), (14, 13, 3)),
    (Conv2d(6, (3, 2), (1, 2), (2, 0, 1, 1)), (5, 6, 4)),
    (Conv2d(32, (3, 3), (1, 1), (1, 1, 1, 1), groups=2, block=1), (5, 6, 32)),
    (Conv2d(32, (3, 3), (2, 2), (1, 1, 1, 1), groups=2, block=1), (5, 6, 32)),
    (Conv2d(12, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2)), (5, 6, 12)),
]
LINEAR = [(10, 33), (64, 72), (130, 40)]
"""Features out and in."""

SM_80, SM_90 = (Target.parse(f"cuda:sm_{n}") for n in (80, 90))


def given(key: str, *shape: Any) -> Value:
    return source(Input(key, TensorType(shape)))


def weight(key: str, *shape: Any) -> Value:
    return source(Parameter(key, TensorType(shape)))


def products(dtype: DType = DType.FLOAT32, only: slice = slice(None)) -> Graph:
    """One graph with every convolution and linear layer, each with something fused behind, and both gradients."""

    def rounded(value: Value) -> Value:
        return value if dtype is DType.FLOAT32 else e.cast(value, dtype)

    inputs: list[Value] = []
    outputs: dict[str, Value] = {}

    def feed(key: str, *shape: Any) -> Value:
        inputs.append(given(key, *shape))
        return inputs[-1]

    for i, (op, (height, width, channels)) in list(enumerate(CONVOLUTIONS))[only]:
        w, bias = weight(f"w{i}", *op.weight_shape(channels)), weight(f"b{i}", op.channels)
        x, dy = (
            feed(f"x{i}", N, height, width, channels),
            feed(f"dy{i}", N, *op.output_size(height, width), op.channels),
        )
        by_image = Conv2dInputGradient(**op.attributes(), input_size=(height, width, channels))
        by_weight = Conv2dWeightGradient(**op.attributes(), in_channels=channels)
        y = e.cast(apply(op, rounded(x), rounded(w)), DType.FLOAT32)
        outputs[f"y{i}"] = relu(e.add(y, bias))
        outputs[f"dx{i}"] = e.add(e.cast(apply(by_image, rounded(dy), rounded(w)), DType.FLOAT32), x)
        outputs[f"dw{i}"] = e.multiply(e.cast(apply(by_weight, rounded(x), rounded(dy)), DType.FLOAT32), w)
    for i, (features, width) in list(enumerate(LINEAR))[only]:
        w, x, dy = weight(f"lw{i}", features, width), feed(f"lx{i}", N, width), feed(f"ldy{i}", N, features)
        outputs[f"ly{i}"] = apply(Linear(features), rounded(x), rounded(w))
        outputs[f"ldx{i}"] = apply(LinearInputGradient(features, features_in=width), rounded(dy), rounded(w))
        outputs[f"ldw{i}"] = apply(LinearWeightGradient(features), rounded(x), rounded(dy))
    return Graph("products", tuple(inputs), outputs)


@pytest.fixture
def in_turn(monkeypatch: pytest.MonkeyPatch) -> list[Tiling]:
    """Every product is cut by the next shape of tiles, every other one with K shared out; gives what was used."""
    used: list[Tiling] = []

    def choose(problem: Problem, batch: int | None, target: CudaTarget) -> Tiling:
        shapes = tilings.shapes(problem, target)
        used.append(replace(shapes[len(used) % len(shapes)], splits=(1, 3)[len(used) % 2]))
        return used[-1]

    monkeypatch.setattr(product, "choose", choose)
    return used


def run(
    graph: Graph, functions: Callable[..., Any], compiled: Any, backwards: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the kernels compute of random numbers, by the program's steps in plain numpy, and what the interpreter does."""
    rng = np.random.default_rng(0)
    sizes = {v.op.key: tuple(BATCH if d is N else d for d in v.type.shape) for v in (*graph.inputs, *graph.parameters)}
    given = {key: rng.standard_normal(size).astype(np.float32) for key, size in sizes.items()}
    memory: dict[Any, np.ndarray] = {}
    program = compiled.program

    def tensor(number: int) -> np.ndarray:
        slot = program.slots[number]
        shape = tuple(BATCH if d == -1 else d for d in slot.shape)
        dtype = np.dtype(ml_dtypes.bfloat16) if slot.dtype == "bfloat16" else np.dtype(slot.dtype)
        key = (slot.place, slot.name, slot.storage)
        if key not in memory:
            memory[key] = aligned_copy(given[slot.name] if slot.name in given else np.zeros(shape, dtype))
        return memory[key].reshape(shape)

    for step in program.steps:
        functions(step.kernel)(*map(tensor, step.slots), backwards=backwards)
    computed = {s.name: tensor(i) for i, s in enumerate(program.slots) if s.place == "output"}
    expected, _ = interpret(graph, {key: array.astype(np.float64) for key, array in given.items()})
    return computed, expected


def near(computed: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    assert computed.keys() == expected.keys()
    for name, right in expected.items():
        np.testing.assert_allclose(computed[name], right, rtol=0, atol=tolerance * np.abs(right).max(), err_msg=name)


@pytest.mark.parametrize("only", [slice(0, 2), slice(2, 5), slice(5, 8), slice(8, 10)], ids=str)
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_products_are_exact_to_the_bit_that_float32_sums_lose(
    precision: str, only: slice, emulated: Callable[..., Any], in_turn: list[Tiling]
) -> None:
    graph = in_precision(products(only=only), precision)
    compiled = compile_graph(graph, SM_90, batch=BATCH)
    functions = emulated(compiled)

    computed, expected = run(graph, functions, compiled, backwards=False)
    again, _ = run(graph, functions, compiled, backwards=True)

    near(computed, expected, 2e-6)
    assert all(np.array_equal(computed[name], again[name]) for name in computed)
    assert {"float32": "Product", "tf32": "ProductTf32"}[precision] in compiled.rules.values()
    assert len(in_turn) == len([r for r in compiled.rules.values() if r.startswith("Product")]) > 0


@pytest.mark.parametrize("only", [slice(0, 3), slice(3, 6)], ids=str)
@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16], ids=str)
def test_products_of_16_bit_numbers_have_float32_sums(
    dtype: DType, only: slice, emulated: Callable[..., Any], in_turn: list[Tiling]
) -> None:
    graph = products(dtype, only)
    compiled = compile_graph(graph, SM_80, batch=BATCH)

    computed, expected = run(graph, emulated(compiled), compiled, backwards=True)

    unit = {DType.FLOAT16: 2.0**-11, DType.BFLOAT16: 2.0**-8}[dtype]
    near(computed, expected, 3 * unit)  # factors are rounded, and results
    assert "ProductHalf" in compiled.rules.values()


def test_results_and_operands_may_be_parts_of_a_concatenation(emulated: Callable[..., Any]) -> None:
    x = given("x", N, 4, 5, 12)
    left = relu(e.add(apply(Conv2d(20, (1, 1)), x, weight("left", 20, 12, 1, 1)), weight("bias", 20)))
    right = apply(Conv2d(8, (3, 3), padding=(1, 1, 1, 1)), left, weight("right", 8, 20, 3, 3))
    graph = in_precision(Graph("g", (x,), {"y": max_pool(concat([left, right], 3), 2)}), "tf32")
    compiled = compile_graph(graph, SM_90, batch=BATCH)

    computed, expected = run(graph, emulated(compiled), compiled, backwards=False)

    near(computed, expected, 2e-6)
    assert list(compiled.rules.values()).count("ProductTf32") == 2


def test_a_kernel_gives_its_result_rounded_and_unrounded(emulated: Callable[..., Any]) -> None:
    x = given("x", N, 4, 5, 8)
    y = relu(apply(Conv2d(8, (1, 1)), x, weight("one", 8, 8, 1, 1)))
    z = e.add(apply(Conv2d(8, (3, 3), padding=(1, 1, 1, 1)), y, weight("two", 8, 8, 3, 3)), y)
    graph = in_precision(Graph("g", (x,), {"z": z}), "tf32")
    compiled = compile_graph(graph, SM_90, batch=BATCH)

    computed, expected = run(graph, emulated(compiled), compiled, backwards=True)

    near(computed, expected, 2e-6)
    assert any(step.what == "conv2d+relu+round" for step in compiled.program.steps)


def test_what_follows_a_convolution_is_fused_behind_it() -> None:
    x, y = given("x", N, 8, 8, 16), given("y", N, 8, 8, 32)
    sums = apply(Conv2d(32, (3, 3), padding=(1, 1, 1, 1), block=1), x, weight("w", 32, 3, 3, 16, 1))
    scaled = e.add(e.multiply(sums, weight("scale", 32)), weight("shift", 32))
    graph = in_precision(Graph("g", (x, y), {"z": relu(e.add(scaled, y))}), "tf32")

    compiled = compile_graph(graph, SM_90, batch=64)

    (name,) = [n for n, rule in compiled.rules.items() if rule == "ProductTf32"]
    assert name.startswith("conv2d_multiply_add_add")
    assert compiled.code.source.count(f"__launch_bounds__(128) {name}_kernel") >= 1  # type: ignore[attr-defined]
    assert f"{name}_kernel_1" not in compiled.code.source  # type: ignore[attr-defined]


@pytest.mark.parametrize("target", [SM_80, SM_90, Target.parse("cuda")], ids=lambda t: t.name)
@pytest.mark.parametrize("units", Units)
@pytest.mark.parametrize("kind", Kind)
def test_every_cut_fits_into_shared_memory(kind: Kind, units: Units, target: CudaTarget) -> None:
    dtype = {Units.FLOAT16: "float16", Units.BFLOAT16: "bfloat16"}.get(units, "float32")
    limit = {"cuda:sm_90": 227, "cuda:sm_80": 163, "cuda": 99}[target.name] * 1024
    for channels in (3, 64):
        problem = Problem(kind, units, dtype, channels, 64, (3, 3), (9, 9, channels), (7, 7), upstream=64)
        cuts = tilings.shapes(problem, target)

        assert cuts
        for cut in cuts:
            assert cut.shared(problem) <= limit
            assert cut.stages >= 3


def test_small_products_share_k_out_and_large_ones_do_not() -> None:
    def cut(batch: int | None, kind: Kind = Kind.FORWARD) -> Tiling:
        problem = Problem(
            kind, Units.TF32, "float32", 512, 512, (3, 3), (7, 7, 512), (7, 7), shift=(-1, -1), upstream=512
        )
        return tilings.choose(problem, batch, SM_90)

    assert cut(1).splits > 1
    assert cut(256).splits == 1
    assert cut(None).splits == 1
    assert cut(256).rows * cut(256).columns > cut(1).rows * cut(1).columns


def test_one_sample_has_a_kernel_of_its_own_where_another_cut_suits_it() -> None:
    x = given("x", N, 7, 7, 512)
    sums = apply(Conv2d(512, (3, 3), padding=(1, 1, 1, 1), block=1), x, weight("w", 512, 3, 3, 512, 1))
    compiled = compile_graph(Graph("g", (x,), {"y": relu(sums)}), SM_90)

    (step,) = compiled.program.steps
    source = compiled.code.source  # type: ignore[attr-defined]
    assert set(compiled.rules) == {step.kernel, step.kernel_one}
    assert f"{step.kernel_one}_kernel_1(" in source and f"{step.kernel}_kernel_1(" not in source


def test_older_gpus_keep_the_general_rules() -> None:
    x = given("x", N, 8, 8, 16)
    graph = Graph("g", (x,), {"y": apply(Conv2d(32, (1, 1)), x, weight("w", 32, 16, 1, 1))})

    rules = compile_graph(graph, Target.parse("cuda:sm_75"), batch=2).rules.values()

    assert not any(rule.startswith("Product") for rule in rules)


@pytest.mark.parametrize(
    ("target", "dtype", "instruction"),
    [
        (SM_80, DType.FLOAT32, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"),
        (SM_90, DType.FLOAT16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"),
        (SM_90, DType.BFLOAT16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"),
    ],
    ids=lambda v: str(getattr(v, "name", v)),
)
def test_the_machine_code_uses_tensor_cores_and_asynchronous_copies(
    target: CudaTarget, dtype: DType, instruction: str
) -> None:
    pytest.importorskip("cuda.bindings.nvfatbin")
    graph = in_precision(products(dtype, slice(1, 2)), "tf32" if dtype is DType.FLOAT32 else "float32")

    source = compile_graph(graph, target, batch=BATCH).code.source  # type: ignore[attr-defined]
    ptx = cuda.compile_source(source, target.arch).ptx.decode()

    assert ptx.count(instruction) >= 3 * 16  # forward and two gradients
    for wanted in ("cp.async.cg.shared.global", "cp.async.wait_group", "ldmatrix.sync.aligned", "st.global.v4.f32"):
        assert wanted in ptx
    assert ".local" not in ptx  # nothing spills that the compiler knows of
