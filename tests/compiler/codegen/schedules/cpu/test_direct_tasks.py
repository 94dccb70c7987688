"""How direct convolutions are cut into tasks, by the sizes of what moves."""

import dataclasses

import pytest

from dlc.compiler.codegen.schedules.cpu.direct_tasks import Shape, Tasks, choose_tasks
from dlc.compiler.machine import Machine, on_mesh

MACHINE = Machine(lanes=16, registers=32, cores=2, l1=48 * 1024, l2=2 * 2**20, l3=64 * 2**20)


def pointwise(inputs, outputs, size, batch=1):
    """A convolution of 1x1 with blocks of 32 channels."""
    row = 4.0 * size * inputs
    tile = max(t for t in range(1, 15) if size % t == 0)
    return Shape(batch, size, size, outputs // 32, 32, 1, inputs, tile, 14, row)


def test_a_small_convolution_is_one_task():
    assert choose_tasks(pointwise(16, 32, 7), MACHINE) == Tasks(7, 1)


def test_large_results_are_written_by_rows_with_all_their_channels():
    tasks = choose_tasks(pointwise(64, 256, 56), MACHINE)

    assert tasks.blocks == 8 and tasks.rows <= 28


def test_large_weights_are_shared_out_by_blocks():
    assert choose_tasks(pointwise(2048, 512, 7), MACHINE) == Tasks(7, 8)


def test_blocks_change_seldom_where_each_has_many_weights():
    assert choose_tasks(pointwise(1024, 256, 14), MACHINE).rows >= 7


@pytest.mark.parametrize("batch", [1, 3, 8, None])
@pytest.mark.parametrize("cores", [1, 2, 5, 64])
def test_every_cut_divides_the_work(batch, cores):
    machine = dataclasses.replace(on_mesh(MACHINE), cores=cores)
    for inputs, outputs, size in ((3, 64, 1), (48, 96, 13), (512, 2048, 7), (64, 64, 224)):
        shape = pointwise(inputs, outputs, size, batch)
        tasks = choose_tasks(shape, machine)

        assert shape.rows % tasks.rows == 0 and shape.blocks % tasks.blocks == 0
        assert tasks.rows % shape.tile_rows(tasks.rows) == 0


def test_a_mesh_leaves_a_core_a_part_of_the_third_level():
    mesh = on_mesh(MACHINE)

    assert mesh.l3 < MACHINE.l3 and mesh.l3_rate < MACHINE.l3_rate
    assert on_mesh(dataclasses.replace(MACHINE, l3=2**20)).l3 == 2**20


@pytest.mark.parametrize(
    "sizes", [(3, 64, 1), (48, 96, 13), (512, 2048, 7), (64, 64, 224), (64, 256, 56), (2048, 512, 7)]
)
def test_a_cut_for_any_batch_is_that_for_one_image_or_says_that_it_differs(sizes):
    anyone, alone = (choose_tasks(pointwise(*sizes, batch), MACHINE) for batch in (None, 1))

    assert anyone.differs_alone or anyone == alone
    assert not alone.differs_alone
