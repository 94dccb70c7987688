"""The memory plan: no two tensors that are alive together share bytes, and the peak is what was reported."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dlc.runtime.memory import ALIGNMENT, lifetimes, plan_memory
from dlc.runtime.plan import BATCH, Program, Slot, Step, TensorSpec

BIG = 2**10


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Programs of random steps over random storages, some seen through two slots."""
    storages = draw(st.integers(1, 12))
    shapes = [(BATCH, draw(st.integers(1, BIG))) for _ in range(storages)]
    slots = [Slot((BATCH, 4), "float32", "input", "x")]
    slots += [
        Slot(shape, draw(st.sampled_from(["float32", "uint8"])), "arena", storage=i) for i, shape in enumerate(shapes)
    ]
    slots += [
        Slot((BATCH, 1, shapes[i][1]), "float32", "arena", storage=i)
        for i in draw(st.sets(st.integers(0, storages - 1)))
    ]
    steps = draw(st.lists(st.lists(st.integers(0, len(slots) - 1), min_size=1, max_size=4), min_size=1, max_size=15))
    return Program(
        (TensorSpec("x", (BATCH, 4), "float32"),), (), (), tuple(slots), tuple(Step("k", tuple(s), 1) for s in steps)
    )


@settings(max_examples=300, deadline=None)
@given(programs(), st.integers(1, 5))
def test_no_two_live_storages_overlap(program: Program, batch: int) -> None:
    plan = plan_memory(program, batch)

    lives = lifetimes(program, batch)
    assert set(plan.offsets) == {life.storage for life in lives}
    assert plan.peak == max((plan.offsets[a.storage] + a.size for a in lives), default=0)
    assert plan.needed <= plan.peak
    for a in lives:
        start = plan.offsets[a.storage]
        assert start >= 0 and start % ALIGNMENT == 0
        for b in lives:
            if a is not b and a.first <= b.last and b.first <= a.last:
                assert start + a.size <= plan.offsets[b.storage] or plan.offsets[b.storage] + b.size <= start


def test_a_chain_needs_no_more_than_its_two_largest_neighbours() -> None:
    sizes = [100, 400, 300, 50, 700, 16]
    slots = tuple(Slot((BATCH, n), "float32", "arena", storage=i) for i, n in enumerate(sizes))
    steps = tuple(Step("k", (i, i + 1), 1) for i in range(len(sizes) - 1))
    program = Program((), (), (), slots, steps)

    plan = plan_memory(program, 16)

    assert plan.peak == plan.needed == 4 * 16 * (50 + 700)


def test_views_of_one_storage_lie_at_one_place_and_the_larger_one_counts() -> None:
    slots = (
        Slot((BATCH, 100), "float32", "arena", storage=5),
        Slot((BATCH, 10, 5), "float32", "arena", storage=5),
        Slot((BATCH, 3), "float32", "arena", storage=9),
    )
    program = Program((), (), (), slots, (Step("k", (0, 2), 1), Step("k", (1, 2), 1)))

    plan = plan_memory(program, 2)

    assert sorted(plan.offsets) == [5, 9]
    assert plan.peak == 832 + 64
