"""Every shipped architecture compiles for GPUs on a machine without one, and no kernel is left to one thread per result."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import dlc
from dlc import api
from dlc.compiler.build import build_inference
from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.compiled import Compiled
from dlc.compiler.codegen.target import Target
from dlc.compiler.folding import folding
from dlc.compiler.network import inference_form
from dlc.compiler.passes import PackWeights, Simplify
from dlc.compiler.pipeline import compile_folded, compile_training
from dlc.compiler.precision import in_precision

SPECS = Path(dlc.__file__).parent / "specs"
EM_CUDA = 190
SM_90 = Target.parse("cuda:sm_90")

SMALL = [("lenet5", "LeNet5"), ("resnet_cifar", "ResNet20")]
LARGE = [
    ("lenet5_1998", "LeNet5"),
    ("alexnet", "AlexNet"),
    ("alexnet", "AlexNetOf2012"),
    ("vgg", "VggD"),
    ("vgg", "VggALRN"),
    ("googlenet", "GoogLeNet"),
    ("googlenet", "GoogLeNetOf2014"),
    ("resnet", "ResNet18"),
    ("resnet", "ResNet18A"),
    ("resnet", "ResNet50"),
    ("resnet_cifar", "ResNet110"),
]
HEADS = {"GoogLeNet": ("aux1", "aux2"), "GoogLeNetOf2014": ("aux1", "aux2")}


def inference(spec: str, model: str, precision: str = "float32") -> Compiled:
    network = folding(inference_form(api.one_network(SPECS / f"{spec}.dlspec", model=model))).network
    graph = in_precision(PackWeights(1)(Simplify()(build_inference(network))), precision)
    return compile_graph(graph, SM_90)


def step(folder: Path, spec: str, model: str, precision: str = "float32") -> Compiled:
    network = api.one_network(SPECS / f"{spec}.dlspec", model=model)
    heads = "".join(f" + 0.3*cross_entropy({head})" for head in HEADS.get(model, ()))
    path = folder / "step.dlspec"
    path.write_text(
        f'import "{spec}.dlspec" as nets\nmodel Net = nets.{model}\n'
        f"data images {{ source npz\n resize {network.inputs[0].shape[1]} }}\ntrain Step {{ model Net\n data images\n"
        f" loss cross_entropy{'(logits)' if heads else ''}{heads}\n optimizer sgd(lr=0.01, momentum=0.9)\n"
        f" batch 8\n epochs 1\n precision {precision} }}\n"
    )
    return compile_training(api.recipe_of(path), SM_90, 8)


def check_products(compiled: Compiled, rule: str) -> None:
    """Every convolution, linear layer and gradient is taken by this rule."""
    taken = {name: found for name, found in compiled.rules.items() if name.startswith(("conv2d", "linear"))}
    assert taken and set(taken.values()) == {rule}


def check(compiled: Compiled) -> None:
    """The library holds one image of machine code for GPUs, and every kernel was taken by a rule that shares out its work."""
    library = compiled.library()
    images = [library.find(b"\x7fELF", 1)]
    assert images[0] > 0 and library.find(b"\x7fELF", images[0] + 1) < 0
    assert struct.unpack_from("<H", library, images[0] + 18)[0] == EM_CUDA
    assert compiled.program.device == "cuda"
    assert not scalar(compiled)


def scalar(compiled: Compiled) -> set[str]:
    """The kernels that no rule shares out: those that TVM gives one thread per result and that are no products, and all that
    even TVM does not take."""
    products = {s.kernel for s in compiled.program.steps if "conv2d" in s.what or "linear" in s.what}
    by_rule = {rule: {n for n, r in compiled.rules.items() if r == rule} for rule in compiled.rules.values()}
    return by_rule.get("OneThreadPerResult", set()) | (by_rule.get("Fallback", set()) - products)


@pytest.mark.parametrize("spec, model", SMALL)
def test_small_networks_compile(spec: str, model: str) -> None:
    pytest.importorskip("cuda.bindings.nvfatbin")

    check(inference(spec, model))


@pytest.mark.parametrize("spec, model", SMALL)
def test_products_of_small_networks_use_tensor_cores_only_where_tf32_is_allowed(
    spec: str, model: str, tmp_path: Path
) -> None:
    check_products(inference(spec, model), "Product")
    check_products(inference(spec, model, "tf32"), "ProductTf32")
    check_products(step(tmp_path, spec, model, "tf32"), "ProductTf32")
    check_products(step(tmp_path, spec, model, "bfloat16"), "ProductHalf")


@pytest.mark.slow
@pytest.mark.parametrize("spec, model", LARGE)
def test_products_of_large_networks_use_tensor_cores_where_tf32_is_allowed(
    spec: str, model: str, tmp_path: Path
) -> None:
    check_products(inference(spec, model, "tf32"), "ProductTf32")
    if (spec, model) != ("lenet5_1998", "LeNet5"):  # its recipe has a loss of its own
        check_products(step(tmp_path, spec, model, "tf32"), "ProductTf32")


@pytest.mark.parametrize("spec, model", LARGE)
def test_no_kernel_of_a_large_network_is_left_to_one_thread_per_result(spec: str, model: str) -> None:
    assert not scalar(inference(spec, model))


@pytest.mark.slow
@pytest.mark.parametrize("spec", sorted(p.stem for p in SPECS.glob("*.dlspec")))
@pytest.mark.parametrize("precision", ["float32", "tf32", "float16", "bfloat16"])
def test_no_kernel_of_any_shipped_model_is_left_to_one_thread_per_result(spec: str, precision: str) -> None:
    for network in api.networks(SPECS / f"{spec}.dlspec"):
        folded = folding(inference_form(network))
        weights = folded.fold(api.fresh_weights(network))

        compiled, _ = compile_folded(folded.network, weights, SM_90, precision=precision)

        assert not scalar(compiled), network.name
        rule = {"float32": "Product", "tf32": "ProductTf32"}.get(precision, "ProductHalf")
        check_products(compiled, rule)


@pytest.mark.parametrize("spec, model", [("alexnet", "AlexNet"), ("resnet_cifar", "ResNet20")])
def test_no_kernel_of_a_training_step_is_left_to_one_thread_per_result(spec: str, model: str, tmp_path: Path) -> None:
    assert not scalar(step(tmp_path, spec, model))


@pytest.mark.slow
@pytest.mark.parametrize("spec, model", LARGE)
def test_large_networks_compile(spec: str, model: str) -> None:
    check(inference(spec, model))


@pytest.mark.slow
@pytest.mark.parametrize("spec, model", [*SMALL, *LARGE])
def test_training_steps_compile(spec: str, model: str, tmp_path: Path) -> None:
    if (spec, model) == ("lenet5_1998", "LeNet5"):
        pytest.skip("its recipe has a loss of its own, which the spec's own test trains")
    check(step(tmp_path, spec, model))
