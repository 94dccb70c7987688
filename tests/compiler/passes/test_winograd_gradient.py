"""The choice of tiles for gradients of weights: which of them get tiles, and that they still mean the same."""

import pytest

from dlc.compiler.autodiff import gradients
from dlc.compiler.ir import Graph
from dlc.compiler.machine import Machine
from dlc.compiler.ops import elementwise as e
from dlc.compiler.ops.convolution import conv2d
from dlc.compiler.ops.reduction import reduce_sum
from dlc.compiler.passes import PackWeights, WinogradGradient
from dlc.compiler.passes.winograd_gradient_tasks import GradientShape, plan_gradient

MACHINE = Machine(lanes=16, registers=32, cores=2, l1=48 * 1024, l2=2**20, l3=32 * 2**20)


def ops(graph):
    return [v.op.name for v in graph.values if "weight_gradient" in v.op.name]


def by_weight(x, w, lanes=16, **options):
    """The gradient of the sum of squares of a convolution by its weight, packed for `lanes` (0: canonical)."""
    y = conv2d(x, w, **options)
    graph = Graph("g", (x,), {"loss": reduce_sum(e.multiply(y, y), (0, 1, 2, 3))})
    graph = PackWeights(lanes)(graph) if lanes else graph
    (gradient,) = gradients(graph.outputs["loss"], graph.parameters)
    return Graph("g", graph.inputs, {"gradient": gradient})


def test_a_gradient_by_tiles_is_the_same(image, weight, random, same):
    before = by_weight(image(13, 9, 32), weight("a", 48, 32, 3, 3), padding=(2, 0, 1, 1))
    after = WinogradGradient(MACHINE, 8)(before)

    assert ops(after) == ["winograd_weight_gradient"]
    canonical = {v.op.key: random(*v.op.layout.canonical_shape) * 0.002 for v in before.parameters}
    same(before, after, {v.op.key: v.op.layout.pack(canonical[v.op.key]) for v in before.parameters}, canonical)


@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        ((28, 28, 64), 3, {"stride": 2, "padding": 1}),
        ((28, 28, 64), 3, {"dilation": 2}),
        ((28, 28, 64), 3, {"groups": 2, "padding": 1}),
        ((28, 28, 64), 1, {}),
        ((224, 224, 3), 3, {"padding": 1}),
        ((28, 28, 64), 3, {"padding": 1, "lanes": 0}),
    ],
)
def test_gradients_that_tiles_do_not_help_stay(image, weight, size, kernel, options):
    w = weight("w", 64, size[2] // options.get("groups", 1), kernel, kernel)

    assert ops(WinogradGradient(MACHINE, 8)(by_weight(image(*size), w, **options))) == ["conv2d_weight_gradient"]


@pytest.mark.parametrize("batch", [1, 4, 12])
@pytest.mark.parametrize("extents", [(56, 56, 64, 64), (7, 7, 512, 512), (32, 32, 16, 16), (5, 3, 40, 24)])
def test_cuts_cover_everything_once_and_fit_into_the_cache(extents, batch):
    shape = GradientShape(*extents, 3, 32)
    _, tasks = plan_gradient(shape, 4, batch, MACHINE)

    assert batch % (tasks.parts * tasks.images) == 0
    assert -(-shape.rows // 4) % tasks.rows == 0 and shape.inputs % tasks.inputs == 0
    assert shape.blocks % tasks.blocks == 0
    tiles = tasks.images * tasks.rows * -(-shape.columns // 4)
    outputs = tasks.blocks * shape.block
    assert 4 * 36 * (tasks.inputs * outputs + tiles * (tasks.inputs + outputs)) <= MACHINE.l2


def test_the_number_of_cores_does_not_change_the_order_of_sums():
    shape = GradientShape(32, 32, 16, 16, 3, 16)
    machines = [Machine(16, 32, cores, 48 * 1024, 2**20, 32 * 2**20) for cores in (1, 2, 64)]

    assert {plan_gradient(shape, 4, 128, machine)[1].parts for machine in machines} == {16}
