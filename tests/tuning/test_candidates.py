"""Candidates: kernels in every form and cut that a search may take compute the same, on odd sizes too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlc.api import fresh_weights, one_network
from dlc.compiler.autodiff import gradients
from dlc.compiler.choices import Choices, ConvolutionCut, Cut, Form, LinearCut, OneCore
from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.cache import BuildOptions
from dlc.compiler.codegen.candidates import Candidate, compile_candidates, is_the_model_s
from dlc.compiler.codegen.emit import Call, order
from dlc.compiler.codegen.space import cuts
from dlc.compiler.codegen.target import CpuTarget, Target
from dlc.compiler.codegen.workload import digest, identity
from dlc.compiler.interpret import interpret
from dlc.compiler.ir import Graph, Input, N, Parameter, TensorType, Value, source
from dlc.compiler.ops import elementwise as e
from dlc.compiler.ops.convolution import conv2d
from dlc.compiler.ops.functions import relu, tanh
from dlc.compiler.ops.linear import linear
from dlc.compiler.ops.reduction import reduce_sum
from dlc.compiler.passes import PackWeights, Simplify, Winograd
from dlc.compiler.passes.forms import Convolution, in_form, transforming
from dlc.compiler.passes.pack_weights import weight_block
from dlc.compiler.passes.winograd import form_workload, time_by_tiles
from dlc.compiler.passes.winograd_tasks import Shape, Tasks, plan
from dlc.compiler.pipeline import compile_folded
from dlc.tuning.measuring import Arrays, agree


@pytest.fixture(scope="module")
def target() -> CpuTarget:
    found = Target.parse("cpu")
    assert isinstance(found, CpuTarget)
    return found


def given(key: str, *shape: object) -> Value:
    return source(Input(key, TensorType(shape)))  # type: ignore[arg-type]


def weight(key: str, *shape: int) -> Value:
    return source(Parameter(key, TensorType(shape)))


def convolution(height: int = 9, width: int = 11, inputs: int = 5, channels: int = 37, kernel: int = 3) -> Graph:
    x = given("x", N, height, width, inputs)
    y = conv2d(x, weight("w", channels, inputs, kernel, kernel), padding=kernel // 2)
    return Graph("g", (x,), {"y": relu(e.add(y, weight("b", channels)))})


def dense(features: int = 70, inputs: int = 33) -> Graph:
    x = given("x", N, inputs)
    return Graph("g", (x,), {"y": tanh(e.add(linear(x, weight("w", features, inputs)), weight("b", features)))})


def calls(graph: Graph, target: CpuTarget) -> tuple[Call, ...]:
    return order(PackWeights(target.lanes)(Simplify()(graph))).calls


def results(call: Call, cut: Cut | None, batch: int | None, samples: int, target: CpuTarget) -> list[np.ndarray]:
    (kernel,) = compile_candidates([Candidate(call, batch, cut)], target)
    return Arrays.of(call, samples, 0).computed(kernel)


@pytest.mark.parametrize(
    ("make", "kind", "batch", "samples"),
    [
        (convolution, ConvolutionCut, 1, 1),
        (convolution, ConvolutionCut, None, 3),
        (lambda: convolution(7, 14, 1, 4, 5), ConvolutionCut, 2, 2),  # neighbouring columns share a block
        (dense, LinearCut, 1, 1),
        (dense, LinearCut, None, 5),
    ],
)
def test_every_cut_computes_the_same(
    make: Callable[[], Graph], kind: type[Cut], batch: int | None, samples: int, target: CpuTarget
) -> None:
    (call,) = calls(make(), target)
    found = cuts(call, batch, samples, target)
    assert len(found) > 2
    assert all(isinstance(cut, kind) for cut in found)
    chosen = [found[i] for i in sorted({0, len(found) // 3, len(found) // 2, len(found) - 1})]
    expected = results(call, None, batch, samples, target)

    for cut in chosen:
        assert agree(results(call, cut, batch, samples, target), expected), cut


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(("tile", "batch", "samples"), [(2, 1, 1), (4, None, 3)])
def test_every_cut_of_a_convolution_by_tiles_computes_the_same(
    tile: int, batch: int | None, samples: int, inside: bool, target: CpuTarget
) -> None:
    (call,) = calls(convolution(inputs=16), target)
    call = Call(in_form(call.kernel, tile, target.lanes, inside=inside), call.in_place)
    found = cuts(call, batch, samples, target)
    assert len(found) > 4
    assert all(isinstance(cut, Tasks) for cut in found)
    expected = results(call, None, batch, samples, target)

    for cut in (found[len(found) // 2], found[-1]):
        assert agree(results(call, cut, batch, samples, target), expected), cut


@pytest.mark.parametrize(("turned", "inside"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("tile", [0, 2, 3, 4])
def test_a_kernel_in_another_form_computes_the_same(tile: int, turned: bool, inside: bool, target: CpuTarget) -> None:
    inside = inside and tile > 0
    inputs, channels = 19, 34
    x, w = given("x", N, 8, 7, inputs), weight("w", channels, inputs, 3, 3)
    y = conv2d(x, w, padding=(2, 0, 1, 1))
    graph = Graph("g", (x,), {"y": y})
    if turned:
        upstream = given("u", N, *y.type.shape[1:])
        packed = PackWeights(target.lanes)(graph)
        (y,), (x,) = packed.outputs.values(), packed.inputs
        (by_image,) = gradients(reduce_sum(e.multiply(y, upstream), (0, 1, 2, 3)), [x])
        graph = Simplify()(Graph("g", (x, upstream), {"y": by_image}))
    anchored = [c for c in order(PackWeights(target.lanes)(graph)).calls if Convolution.of(c.kernel) is not None]
    kernel = anchored[-1].kernel
    found = Convolution.of(kernel)
    assert found is not None and found.turned is turned and found.tile == 0
    made = in_form(kernel, tile, target.lanes, inside=inside)

    again = Convolution.of(made)
    assert again is not None
    assert (again.channels, again.inputs, again.padding, again.turned, again.tile, again.inside) == (
        found.channels,
        found.inputs,
        found.padding,
        turned,
        tile,
        inside,
    )
    generator = np.random.default_rng(0)
    (image, packed_weight) = (
        generator.standard_normal([2 if d is N else d for d in v.type.shape]) for v in kernel.inputs
    )
    op = found.weights(tile or 2, target.lanes)
    own = op.reference(packed_weight) if tile and not inside else packed_weight
    assert kernel.anchor is not None and made.anchor is not None
    np.testing.assert_allclose(
        made.anchor.op.reference(image, own), kernel.anchor.op.reference(image, packed_weight), atol=1e-9
    )


def test_a_weight_is_transformed_by_the_kernel_that_says_so(target: CpuTarget) -> None:
    (call,) = calls(convolution(inputs=16), target)
    found = Convolution.of(call.kernel)
    assert found is not None
    transform = Call(transforming(found, 3, target.lanes), {})

    (kernel,) = compile_candidates([Candidate(transform, 1)], target)
    arrays = Arrays.of(transform, 1, 0)
    computed = arrays.computed(kernel)
    expected = found.weights(3, target.lanes).reference(arrays.first[0].astype(np.float64))

    assert agree(computed, [expected])


def test_the_forms_of_a_network_s_convolutions_keep_their_workloads(target: CpuTarget) -> None:
    """A cut that is measured for a kernel in another form is found when the graph takes that form."""
    graph = Simplify()(convolution(inputs=16))
    (direct,) = calls(graph, target)
    found = Convolution.of(direct.kernel)
    assert found is not None
    name = form_workload(found.shape(target.lanes, streamed=False), (1,), trained=False)
    tiles = Winograd(target.machine, (1,), choices=Choices({name: Form(2)}))(graph)
    (_, tiled) = order(PackWeights(target.lanes)(tiles)).calls
    assert tiled.kernel.anchor is not None and tiled.kernel.anchor.op.name == "winograd_conv2d"
    made = Call(in_form(direct.kernel, 2, target.lanes), direct.in_place)

    assert digest(identity(made.kernel, {}), 1) == digest(identity(tiled.kernel, {}), 1)


def test_a_kernel_on_one_core_has_no_parallel_loop_and_computes_the_same(target: CpuTarget) -> None:
    x = given("x", N, 64, 64, 32)
    graph = Graph("g", (x,), {"y": e.multiply(tanh(x), 2.0)})
    (call,) = order(graph).calls

    assert cuts(call, 2, 2, target) == (OneCore(),)
    assert not is_the_model_s(Candidate(call, 2, OneCore()), target)
    assert agree(results(call, OneCore(), 2, 2, target), results(call, None, 2, 2, target))


def test_a_small_map_has_nothing_to_choose(target: CpuTarget) -> None:
    x = given("x", N, 8)
    (call,) = order(Graph("g", (x,), {"y": e.multiply(x, 2.0)})).calls

    assert cuts(call, 1, 1, target) == ()


def test_cold_weights_are_copies_and_all_else_is_shared(target: CpuTarget) -> None:
    (call,) = calls(convolution(inputs=64, channels=64), target)
    one = Arrays.of(call, 1, 0)
    size = one.first[1].nbytes
    many = Arrays.of(call, 1, 5 * size)

    assert (len(one.calls), len(many.calls)) == (1, 5)
    assert many.calls[0][0] is many.calls[4][0]
    assert many.calls[0][1] is not many.calls[4][1]


def test_measured_cuts_reach_the_kernels_of_a_graph(target: CpuTarget) -> None:
    graph = PackWeights(target.lanes)(Simplify()(convolution()))
    (call,) = order(graph).calls
    cut = ConvolutionCut(3, 1, 3, 1)
    workload = digest(identity(call.kernel, call.in_place), 2)
    plain = compile_graph(graph, target, batch=2)
    tuned = compile_graph(graph, target, batch=2, options=BuildOptions(choices=Choices({workload: cut, "other": cut})))

    assert set(plain.rules).isdisjoint(tuned.rules)  # code in another cut has another name, in the cache too
    assert list(tuned.choices.values()) == [cut]
    assert not plain.choices
    (name,) = tuned.functions
    assert plain.script() != tuned.script()
    assert name in tuned.choices


def test_measured_forms_reach_the_graph(target: CpuTarget) -> None:
    graph = Simplify()(convolution(28, 28, 64, 64))
    (call,) = calls(graph, target)
    found = Convolution.of(call.kernel)
    assert found is not None
    name = form_workload(found.shape(target.lanes, streamed=False), (1,), trained=False)
    values = {"x": np.zeros((1, 28, 28, 64)), "w": np.zeros((64, 64, 3, 3)), "b": np.zeros(64)}

    for tile in (0, 2, 3, 4):
        winograd = Winograd(target.machine, (1,), choices=Choices({name: Form(tile)}))
        made = winograd(graph)
        tiles = [v.op.tile for v in made.values if v.op.name == "winograd_conv2d"]
        assert tiles == ([tile] if tile else [])
        assert winograd.measured(graph) == {name: Form(tile)}
        assert interpret(made, values)[0]["y"].shape == (1, 28, 28, 64)


def test_a_measured_form_holds_for_the_whole_network(target: CpuTarget, tmp_path: Path) -> None:
    """Before weights are packed and after, whether they are transformed once or inside: the convolution has one name."""
    spec = tmp_path / "net.dlspec"
    spec.write_text("model Net {\n    input x: [64, 28, 28]\n    x -> conv(64, 3, pad=1) -> output y\n}\n")
    network = one_network(spec)
    shape = Shape(28, 28, 64, 64, 3, weight_block(target.lanes, 64))
    name = form_workload(shape, (1,), trained=False)

    for tile in (0, 2, 3, 4):
        options = BuildOptions(choices=Choices({name: Form(tile)}))
        compiled, _ = compile_folded(network, fresh_weights(network), target, batch=1, options=options)
        found = [Convolution.of(call.kernel) for call in compiled.calls.values()]
        assert [c.tile for c in found if c is not None] == [tile]
        assert dict(compiled.choices) == {name: Form(tile)}


@pytest.mark.parametrize(("channels", "constant"), [(512, True), (512, False), (64, True)])
def test_a_form_that_is_named_leaves_the_model_to_say_where_weights_are_transformed(
    channels: int, constant: bool, target: CpuTarget
) -> None:
    shape = Shape(14, 14, channels, channels, 3, weight_block(target.lanes, channels), inside=True)
    ahead, _ = time_by_tiles(replace(shape, inside=False), 4, (1,), target.machine, once=constant)
    best, inside = time_by_tiles(shape, 4, (1,), target.machine, once=constant)
    own = plan(shape, 4, 1, target.machine)[0]

    assert best == min(ahead, own)
    assert inside is (own <= ahead)
