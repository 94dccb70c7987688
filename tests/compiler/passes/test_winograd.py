"""The choice of tiles: which convolutions get them, in inference and in training, and that everything still means the same."""

import dataclasses

import pytest

from dlc.compiler.autodiff import gradients
from dlc.compiler.ir import Graph
from dlc.compiler.machine import Machine
from dlc.compiler.ops import elementwise as e
from dlc.compiler.ops.convolution import conv2d
from dlc.compiler.ops.functions import relu
from dlc.compiler.ops.reduction import reduce_sum
from dlc.compiler.passes import PackWeights, Winograd
from dlc.compiler.passes.winograd_tasks import Shape, direct_time, plan

MACHINE = Machine(lanes=16, registers=32, cores=2, l1=48 * 1024, l2=2**20, l3=32 * 2**20)


def ops(graph):
    return [v.op.name for v in graph.values if v.operands]


def tiles(graph):
    return [v.op.tile for v in graph.values if v.op.name == "winograd_conv2d"]


def test_a_convolution_by_tiles_computes_the_same(image, weight, random, same):
    x = image(33, 29, 32)
    y = relu(e.add(conv2d(x, weight("a", 48, 32, 3, 3), padding=1), weight("b", 48)))
    before = Graph("g", (x,), {"y": conv2d(y, weight("c", 32, 48, 3, 3), padding=(2, 0, 1, 1))})
    after = Winograd(MACHINE)(PackWeights(16)(before))

    assert len(tiles(after)) == 2
    same(before, after, {v.op.key: random(*v.type.shape) * 0.02 for v in before.parameters})


def test_what_the_pass_does_to_a_network(image, weight, change):
    x = image(28, 28, 64)
    y = relu(conv2d(x, weight("wide", 64, 64, 3, 3), padding=1))
    y = conv2d(y, weight("strided", 64, 64, 3, 3), stride=2, padding=1)
    before = Graph("g", (x,), {"y": conv2d(y, weight("pointwise", 32, 64, 1, 1))})

    change(before, Winograd(MACHINE)(before), "winograd")


@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        ((28, 28, 64), 3, {"stride": 2, "padding": 1}),
        ((28, 28, 64), 3, {"dilation": 2}),
        ((28, 28, 64), 3, {"groups": 2, "padding": 1}),
        ((28, 28, 64), 1, {}),
        ((28, 28, 1), 3, {"padding": 1}),
        ((224, 224, 3), 3, {"padding": 1}),
    ],
)
def test_convolutions_that_tiles_do_not_help_stay(image, weight, size, kernel, options):
    x = image(*size)
    shape = (64, size[2] // options.get("groups", 1), kernel, kernel)
    graph = Graph("g", (x,), {"y": conv2d(x, weight("w", *shape), **options)})

    assert ops(Winograd(MACHINE)(graph)) == ["conv2d"]


def test_a_step_transforms_packed_weights_forward_and_turned(image, weight, random, same):
    x, a, b = image(14, 14, 64), weight("a", 64, 64, 3, 3), weight("b", 64, 64, 3, 3)
    y = conv2d(relu(conv2d(x, a, padding=1)), b, padding=1)
    forward = Graph("g", (x,), {"loss": reduce_sum(e.multiply(y, y), (0, 1, 2, 3))})
    packed = PackWeights(16)(forward)
    by_a, by_b = gradients(packed.outputs["loss"], packed.parameters)
    before = Graph("g", packed.inputs, {"a": by_a, "b": by_b})
    after = Winograd(MACHINE, (8,))(before)

    assert len(tiles(after)) == 3  # twice forward, once back: nothing needs the gradient by the image
    before_it = [v.op.turned for v in after.values if v.op.name == "winograd_weights"]
    inside = [v.operands[1].type.rank == 5 for v in after.values if v.op.name == "winograd_conv2d"]
    assert before_it.count(True) == 1 and before_it.count(False) + inside.count(True) == 2
    canonical = {v.op.key: random(*v.op.layout.canonical_shape) * 0.002 for v in before.parameters}
    same(before, after, {v.op.key: v.op.layout.pack(canonical[v.op.key]) for v in before.parameters}, canonical)


def test_large_weights_that_come_from_memory_get_smaller_tiles_or_none():
    few = Shape(7, 7, 512, 512, 3, 32, streamed=True)
    many = Shape(28, 28, 128, 128, 3, 32)

    def best(shape, batch):
        times = {tile: plan(shape, tile, batch, MACHINE)[0] for tile in (2, 4)}
        return min(times, key=times.get)

    assert (best(few, 1), best(many, 1), best(many, 8)) == (2, 4, 4)
    assert plan(few, 4, 1, MACHINE)[0] > direct_time(few, 1, MACHINE)


def test_one_image_has_its_weights_transformed_inside_where_they_come_from_memory(image, weight):
    x = image(14, 14, 256)
    packed = PackWeights(16)(Graph("g", (x,), {"y": conv2d(x, weight("w", 256, 256, 3, 3), padding=1)}))
    slow = dataclasses.replace(MACHINE, l3=2**21, memory_rate=2.0)

    assert ops(Winograd(slow, (1,))(packed)) == ["winograd_conv2d"]


def test_constant_weights_are_transformed_once_for_large_images_and_left_to_be_packed_for_small_ones(image, weight):
    x = image(112, 112, 64)
    large = Graph("g", (x,), {"y": conv2d(x, weight("w", 64, 64, 3, 3), padding=1)})
    x = image(14, 14, 256)
    small = Graph("g", (x,), {"y": conv2d(x, weight("w", 256, 256, 3, 3), padding=1)})
    slow = dataclasses.replace(MACHINE, l3=2**21, memory_rate=2.0)

    assert ops(Winograd(MACHINE, (1,), constant_weights=True)(large)) == ["winograd_weights", "winograd_conv2d"]
    assert ops(Winograd(slow, (1,), constant_weights=True)(small)) == ["conv2d"]


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("cores", [1, 2, 64])
def test_every_cut_covers_the_result(lanes, cores):
    machine = dataclasses.replace(MACHINE, lanes=lanes, cores=cores, registers=32 if lanes != 8 else 16)
    for rows, columns in ((1, 1), (7, 7), (13, 31), (56, 56), (5, 224)):
        for tile in (2, 3, 4, 6):
            shape = Shape(rows, columns, 48, 96, 3, 2 * lanes)
            _, tasks = plan(shape, tile, 3, machine)

            assert tasks.wide % tasks.columns == 0 and tasks.rows % tasks.panel_rows == 0
            assert tasks.images % tasks.panel_images == 0
            assert shape.blocks % tasks.blocks == 0 and tasks.blocks % tasks.group == 0
            assert tasks.panel_images * tasks.panel_rows * tasks.columns * 2 <= machine.registers
