"""Networks for GPUs in tf32, fp16 and bf16: the numbers of their formulas, on tensor cores, with 16 bits in memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch.nn import functional as f

import dlc
from dlc import api
from dlc.compiler.codegen import cuda
from dlc.compiler.codegen.cache import BuildOptions, Cache
from dlc.compiler.codegen.compiled import Compiled
from dlc.compiler.codegen.target import CudaTarget, Target
from dlc.compiler.description import folded_weights
from dlc.compiler.errors import DlcError
from dlc.compiler.folding import folding
from dlc.compiler.initial import initial_state, initial_weights
from dlc.compiler.network import inference_form
from dlc.compiler.pipeline import compile_inference, compile_training, make_artifact, make_variant, pack
from dlc.compiler.sizes import at_sizes
from dlc.runtime.arrays import aligned_copy
from dlc.runtime.artifact import load_artifact
from dlc.runtime.executor import Executor

SPECS = Path(dlc.__file__).parent / "specs"
SPEC = """
model Small {
    input image: [3, 13, 11]
    body = c2: conv(40, 3, stride=2, pad=1) -> relu -> c3: conv(40, 3, pad=1)
    short = c4: conv(40, 1, stride=2)
    image -> c1: conv(20, 3, pad=1, bias=false) -> bn: batch_norm -> relu -> max_pool(3, stride=2, pad=1)
          -> residual(body, short) -> relu -> avg_pool(2) -> flatten -> f1: linear(30) -> tanh -> f2: linear(7)
          -> output scores
}
"""
STEPS = {"tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}
INSTRUCTIONS = {
    "tf32": "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32",
    "float16": "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
    "bfloat16": "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
}
RULES = {"tf32": "ProductTf32", "float16": "ProductHalf", "bfloat16": "ProductHalf"}


def sm_90() -> CudaTarget:
    target = Target.parse("cuda:sm_90")
    assert isinstance(target, CudaTarget)
    return target


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "small.dlspec"
    path.write_text(SPEC)
    return path


def small_weights(spec: Path) -> dict[str, np.ndarray]:
    """Random weights, statistics of the batch norm among them."""
    rng = np.random.default_rng(3)
    found = {}
    for name, array in api.fresh_weights(api.one_network(spec), seed=2).items():
        moved = array + 0.3 * rng.standard_normal(array.shape)
        found[name] = (np.abs(moved) + 0.5 if name.endswith("var") else moved).astype(np.float32)
    return found


def rounded(x: torch.Tensor, precision: str) -> torch.Tensor:
    """A float64 tensor, first as float32, then as the type of factors."""
    if precision != "tf32":
        return x.float().to(getattr(torch, precision)).double()
    bits = x.float().numpy().view(np.uint32)
    kept = (bits + np.uint32(0xFFF) + (bits >> np.uint32(13) & np.uint32(1))) & np.uint32(0xFFFFE000)
    return torch.from_numpy(kept.view(np.float32)).double()


def formula(image: np.ndarray, weights: dict[str, np.ndarray], precision: str) -> np.ndarray:
    """What the network gives in float64, its factors rounded; in 16 bits what lies in memory is what factors are."""
    w = {name: torch.from_numpy(array).double() for name, array in weights.items()}
    scale = w["bn.weight"] / torch.sqrt(w["bn.running_var"] + 1e-5)
    w["c1.weight"] = w["c1.weight"] * scale[:, None, None, None]
    w["c1.bias"] = w["bn.bias"] - w["bn.running_mean"] * scale

    def r(x: torch.Tensor) -> torch.Tensor:
        return rounded(x, precision)

    def memory(x: torch.Tensor) -> torch.Tensor:
        return x if precision == "tf32" else r(x)

    def conv(x: torch.Tensor, name: str, **more: int) -> torch.Tensor:
        return f.conv2d(r(x), r(w[f"{name}.weight"]), w[f"{name}.bias"], **more)

    x = f.max_pool2d(memory(torch.relu(conv(torch.from_numpy(image).double(), "c1", padding=1))), 3, 2, 1)
    body = conv(memory(torch.relu(conv(x, "c2", stride=2, padding=1))), "c3", padding=1)
    x = memory(torch.relu(memory(body) + memory(conv(x, "c4", stride=2))))
    x = memory(f.avg_pool2d(x, 2)).flatten(1)
    x = memory(torch.tanh(f.linear(r(x), r(w["f1.weight"]), w["f1.bias"])))
    return f.linear(r(x), r(w["f2.weight"]), w["f2.bias"]).numpy()


def product_entries(compiled: Compiled, rule: str, instruction: str) -> int:
    """Asserts that every product was taken by the rule and that its machine code multiplies by the instruction."""
    ptx = cuda.compile_source(compiled.code.source, "sm_90").ptx.decode()  # type: ignore[attr-defined]  # CudaCode
    bodies = dict(re.findall(r"\.entry (\w+)\((.*?)\n}", ptx, re.DOTALL))
    products = [n for n in compiled.rules if n.startswith(("conv2d", "linear"))]
    assert {compiled.rules[name] for name in products} == {rule}
    for name in products:
        assert any(instruction in body for kernel, body in bodies.items() if kernel.startswith(f"{name}_kernel")), name
    return len(products)


@pytest.mark.parametrize("precision", STEPS)
def test_numbers_are_those_of_the_formula_with_rounded_factors(
    precision: str, spec: Path, emulated: Callable[[Compiled], Callable[[str], Callable[..., None]]]
) -> None:
    weights = small_weights(spec)
    network = inference_form(api.one_network(spec))
    compiled, packed = compile_inference(network, weights, sm_90(), batch=3, precision=precision)
    program = msgspec.structs.replace(compiled.program, device="cpu")
    executor = Executor(program, emulated(compiled), {name: aligned_copy(a) for name, a in packed.items()})
    image = np.random.default_rng(0).standard_normal((3, 3, 13, 11)).astype(np.float32)

    (found,) = executor.execute([image])

    right = formula(image, weights, precision)
    difference = np.abs(found - right) / np.abs(right).max()
    assert found.dtype == np.float32
    assert np.median(difference) < 1e-6
    assert difference.max() < STEPS[precision]  # a sum near the middle between two numbers may be rounded to the other


RECIPE = """
model Tiny {
    input image: [3, 9, 7]
    image -> c1: conv(20, 3, pad=1, bias=false) -> batch_norm -> relu -> c2: conv(10, 3, stride=2) -> tanh
          -> flatten -> f1: linear(5) -> output logits
}
data none { source npz }
train Step {
    model     Tiny
    data      none
    loss      cross_entropy
    optimizer sgd(lr=0.1, momentum=0.9)
    batch     5
    epochs    1
    precision PRECISION
}
"""


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_a_training_step_gives_the_processors_numbers(
    precision: str, tmp_path: Path, emulated: Callable[[Compiled], Callable[[str], Callable[..., None]]]
) -> None:
    path = tmp_path / "tiny.dlspec"
    path.write_text(RECIPE.replace("PRECISION", precision))
    recipe = api.recipe_of(path)
    weights = {**initial_weights(recipe.network, recipe), **initial_state(recipe)}
    host, device = (compile_training(recipe, target, recipe.batch) for target in (Target.parse("cpu"), sm_90()))
    program = msgspec.structs.replace(device.program, device="cpu")
    held = [{n: aligned_copy(a) for n, a in pack(compiled, weights).items()} for compiled in (host, device)]
    right = Executor(host.program, host.function, held[0])
    found = Executor(program, emulated(device), held[1])
    rng = np.random.default_rng(0)
    inputs = {"image": rng.standard_normal((5, 3, 9, 7)).astype(np.float32), "train.rate.0": np.float32(0.1)}
    inputs |= {
        "train.labels": np.array([0, 4, 2, 2, 1], np.int32),
        "train.step": np.uint32(0),
        "train.seed": np.uint32(0),
    }

    for _ in range(2):
        losses = [e.run({s.name: inputs[s.name] for s in e.program.inputs})["train.loss"] for e in (right, found)]
        np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    layouts = [{s.name: s.layout for s in p.weights} for p in (host.program, device.program)]
    for name in weights:
        one, other = (
            a[name] if lay[name] is None else lay[name].unpack(a[name]) for a, lay in zip(held, layouts, strict=True)
        )
        scale = float(np.abs(one).max())
        np.testing.assert_allclose(other, one, rtol=0, atol=STEPS[precision] / 4 * scale, err_msg=name)
    products = {rule for name, rule in device.rules.items() if "conv2d" in name or "linear" in name}
    assert products == {RULES[precision]}


def test_what_lies_in_memory_between_kernels_has_16_bits(spec: Path) -> None:
    compiled, packed = compile_inference(
        inference_form(api.one_network(spec)), small_weights(spec), sm_90(), precision="float16"
    )

    arena = {s.dtype for s in compiled.program.slots if s.place == "arena"}
    assert arena == {"float16"}
    assert {name: a.dtype.name for name, a in packed.items()} == {
        name: "float16" if name.endswith("weight") else "float32" for name in packed
    }


@pytest.mark.parametrize("precision", STEPS)
def test_every_product_of_lenet_multiplies_on_tensor_cores(precision: str) -> None:
    pytest.importorskip("cuda.bindings.nvfatbin")
    network = inference_form(api.one_network(SPECS / "lenet5.dlspec", model="LeNet5"))

    compiled, _ = compile_inference(network, api.fresh_weights(network), sm_90(), precision=precision)

    assert product_entries(compiled, RULES[precision], INSTRUCTIONS[precision]) >= 5


def test_every_product_of_resnet_18_multiplies_on_tensor_cores_in_16_bits() -> None:
    pytest.importorskip("cuda.bindings.nvfatbin")
    network = inference_form(api.one_network(SPECS / "resnet.dlspec", model="ResNet18"))

    compiled, _ = compile_inference(network, api.fresh_weights(network), sm_90(), precision="fp16")

    assert product_entries(compiled, "ProductHalf", INSTRUCTIONS["float16"]) >= 12
    stored = [s for s in compiled.program.slots if s.place == "arena"]
    wide = [s.shape for s in stored if s.dtype == "float32"]
    assert wide == [(-1, 7, 7, 512)]  # what the mean over all positions is taken of


def test_an_artifact_says_its_precision_and_holds_rounded_weights(spec: Path, tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.nvfatbin")
    weights = small_weights(spec)
    for word, name, kind in (("tf32", "tf32", "float32"), ("fp16", "float16", "float16")):
        path = tmp_path / f"{name}.dlc"
        api.compile_to_file(spec, path, weights=weights, target="cuda:sm_90", precision=word, cache=False)

        artifact = load_artifact(path, runs_here=False)

        assert artifact.manifest.precision == name
        assert artifact.weights["f2.weight"].dtype == np.dtype(kind)
        expected = rounded(torch.from_numpy(weights["f2.weight"]).double(), name).numpy()
        np.testing.assert_array_equal(artifact.weights["f2.weight"].astype(np.float64), expected)
        np.testing.assert_array_equal(artifact.weights["f2.bias"], weights["f2.bias"])


def test_a_program_for_other_sizes_shares_the_rounded_weights(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.nvfatbin")
    path = tmp_path / "free.dlspec"
    path.write_text(
        "model Free {\n input image: [3, 12, 12]\n"
        " image -> conv(16, 3, pad=1) -> batch_norm -> relu -> global_avg_pool -> linear(5) -> output scores\n}\n"
    )
    network = api.one_network(path)
    for precision in ("tf32", "float16"):
        artifact = make_artifact(network, api.fresh_weights(network), sm_90(), precision=precision)

        canonical = folded_weights(artifact, folding(inference_form(network)).network)
        variant = make_variant(
            at_sizes(inference_form(network), [(9, 15)]), canonical, artifact.weights, sm_90(), precision=precision
        )

        assert {a.dtype.name for a in canonical.values()} == {"float32"}
        assert variant.weights == {}
        assert variant.program.inputs[0].shape == (-1, 3, 9, 15)


def test_a_weight_beyond_the_range_of_16_bits_is_named(spec: Path) -> None:
    weights = small_weights(spec) | {"f2.weight": np.full((7, 30), 1e5, np.float32)}
    network = inference_form(api.one_network(spec))

    with pytest.raises(DlcError, match=r"the weight 'f2\.weight' is as large as 1e\+05, float16 ends at 65504"):
        compile_inference(network, weights, sm_90(), precision="fp16")
    compile_inference(network, weights, sm_90(), precision="bf16")


def test_what_no_gpu_or_no_processor_can_do_is_refused(spec: Path) -> None:
    refused = [("cpu", "tf32"), ("x86-64-v3", "fp16"), ("cuda:sm_75", "fp16"), ("cuda:sm_75", "bf16")]
    for target, precision in refused:
        with pytest.raises(DlcError, match=f"kernels for {target} have no ") as caught:
            api.compile_to_file(spec, target=target, precision=precision, cache=False)
        assert caught.value.diagnostics[0].code == "E0869"
        assert "target cuda has" in (caught.value.diagnostics[0].help or "") or precision == "bf16"


@pytest.mark.parametrize("precision", ["float32", "tf32", "fp16"])
def test_machine_code_is_made_once_and_kept(
    precision: str, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cuda.bindings.nvfatbin")
    options, network = BuildOptions(Cache(tmp_path)), api.one_network(spec)
    other = small_weights(spec)
    made = make_artifact(network, other, sm_90(), precision=precision, options=options)
    monkeypatch.setattr(cuda, "compile_source", lambda *_: pytest.fail("compiled again"))

    again = make_artifact(network, other, sm_90(), precision=precision, options=options)
    changed = make_artifact(network, api.fresh_weights(network), sm_90(), precision=precision, options=options)

    assert again.code == made.code == changed.code
    assert all(np.array_equal(again.weights[name], array) for name, array in made.weights.items())
    assert not np.array_equal(changed.weights["f1.weight"], made.weights["f1.weight"])
