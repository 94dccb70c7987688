"""Programs that repeat steps compute what they computed before, in less memory, wherever tensors are placed."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given, settings
from hypothesis import strategies as st

from dlc.compiler.codegen.memory_budget import within
from dlc.compiler.codegen.repeating import Repeating
from dlc.runtime.memory import lifetimes, plan_memory
from dlc.runtime.plan import BATCH, Program, Slot, Step, TensorSpec, WeightSpec

ALIGNED = 16
"""Floats in the least that a tensor takes."""


def training_step(widths: list[int], skips: list[int]) -> Program:
    """Layer i reads its weight, the layer before and the one `skips[i]` further back. Then, from the last to the first, the
    gradient by the layer before is computed of what the layer read, and the weight is updated."""
    count = len(widths)
    slots = [Slot((1, 4), "float32", "input", "x")]
    slots += [Slot((w * ALIGNED,), "float32", "arena", storage=i) for i, w in enumerate(widths)]
    slots += [Slot((w * ALIGNED,), "float32", "arena", storage=count + i) for i, w in enumerate(widths)]
    weights = len(slots)
    slots += [Slot((4,), "float32", "weight", f"w{i}") for i in range(count)]
    steps = []
    for i in range(count):
        before = tuple(dict.fromkeys(max(j, 0) for j in (i, i - skips[i])))  # slot j is layer j - 1, slot 0 the input
        steps.append(Step(f"forward{i}", (weights + i, *before, 1 + i), 1, flops=1000))
    for i in reversed(range(count)):
        gradient = 1 + count + i
        above = (gradient + 1,) if i + 1 < count else ()
        steps.append(Step(f"backward{i}", (weights + i, 1 + i, i, *above, gradient), 1, flops=1000))
        steps.append(Step(f"update{i}", (gradient, i, weights + i), 1, flops=1000))
    specs = tuple(WeightSpec(f"w{i}", (4,), "float32") for i in range(count))
    return Program((TensorSpec("x", (1, 4), "float32"),), (), specs, tuple(slots), tuple(steps), batch=1)


def results(program: Program) -> dict[str, Hashable]:
    """What the weights hold at the end, as expressions, with tensors where the memory plan puts them."""
    plan = plan_memory(program, 1)
    sizes = {life.storage: life.size for life in lifetimes(program, 1)}
    arena: dict[int, tuple[int, Hashable]] = {}  # offset -> end, value
    held: dict[str, Hashable] = {spec.name: spec.name for spec in program.weights}

    def read(slot: Slot) -> Hashable:
        if slot.place == "arena":
            end, value = arena[plan.offsets[slot.storage]]
            assert end == plan.offsets[slot.storage] + sizes[slot.storage], "another tensor lies here"
            return value
        return held.get(slot.name, slot.name)

    for step in program.steps:
        chosen = [program.slots[i] for i in step.slots]
        given_ = [read(slot) for slot in chosen[: -step.results]]
        value = hash((step.kernel, *given_, held.get(chosen[-1].name)))
        if chosen[-1].place == "weight":
            held[chosen[-1].name] = value
            continue
        start = plan.offsets[chosen[-1].storage]
        end = start + sizes[chosen[-1].storage]
        arena = {s: (e, v) for s, (e, v) in arena.items() if e <= start or s >= end}
        arena[start] = end, value
    return held


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(2, 14), st.floats(0.2, 1.0))
def test_a_program_within_a_budget_computes_the_same(data: st.DataObject, layers: int, part: float) -> None:
    widths = data.draw(st.lists(st.integers(1, 20), min_size=layers, max_size=layers))
    skips = data.draw(st.lists(st.integers(0, 3), min_size=layers, max_size=layers))
    program = training_step(widths, skips)
    whole = plan_memory(program, 1).peak

    made = within(program, int(whole * part), 1)

    assert made.arena == plan_memory(made.program, 1).peak <= whole
    assert len(made.program.steps) == len(program.steps) + made.repeated
    assert results(made.program) == results(program)


def test_a_chain_of_equal_layers_needs_about_the_root_of_their_number() -> None:
    program = training_step([4] * 64, [0] * 64)
    whole = plan_memory(program, 1).peak

    made = within(program, whole * 2 // 5, 1)
    least = within(program, 1, 1)

    assert made.arena <= whole * 2 // 5
    assert made.repeated < 64
    assert least.arena <= 4 * 4 * ALIGNED * 2 * 2 * 8 * 2  # two segments' worth of √64 layers, twice over for gradients
    assert results(least.program) == results(program)


def test_nothing_is_repeated_where_the_budget_is_large_enough() -> None:
    program = training_step([1, 2, 3], [0, 0, 1])

    made = within(program, plan_memory(program, 1).peak, 1)

    assert made.program is program
    assert made.repeated == 0


def test_a_step_is_not_repeated_once_its_weight_has_changed() -> None:
    """The first layer's result is needed again behind the update of its weight."""
    program = training_step([8, 8, 8], [0, 0, 0])
    update = next(s for s in program.steps if s.kernel == "update0")
    early = [s for s in program.steps if s.kernel.startswith("forward")]
    late = [s for s in program.steps if s not in early and s is not update]
    slots = (*program.slots, Slot((ALIGNED,), "float32", "arena", storage=99))
    first = Step("first", (0, len(program.slots)), 1)
    changed = Step("update0", (len(program.slots), update.slots[-1]), 1)
    program = Program(
        program.inputs, (), program.weights, slots, (early[0], early[1], early[2], first, changed, *late), batch=1
    )
    steps = Repeating(program, 1)

    assert 0 in steps.gaps
    assert steps.sequence({0}) is None
    assert results(within(program, 1, 1).program) == results(program)


def test_programs_for_any_batch_are_searched_for_the_one_that_is_asked_for() -> None:
    program = training_step([4] * 9, [0] * 9)
    slots = tuple(
        s if s.place != "arena" else Slot((BATCH, *s.shape), s.dtype, s.place, s.name, s.storage) for s in program.slots
    )
    program = Program(program.inputs, (), program.weights, slots, program.steps)

    made = within(program, plan_memory(program, 3).peak * 7 // 10, 3)

    assert made.arena <= plan_memory(program, 3).peak * 7 // 10
