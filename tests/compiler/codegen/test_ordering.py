"""Kernels run behind what they wait for, and gradients die as early as they can."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.api import recipe_of
from dlc.compiler.codegen import emit
from dlc.compiler.codegen.target import Target
from dlc.compiler.ir import Graph
from dlc.compiler.passes import PackWeights, Recompute, Simplify
from dlc.compiler.passes.fuse import root
from dlc.compiler.training_step import build_training
from dlc.runtime.memory import plan_memory

BATCH, CHANNELS, SIZE, LAYERS = 4, 16, 16, 8

SPEC = """
model M {{
    input image: [{channels}, {size}, {size}]
    image -> {body} -> global_avg_pool -> linear(10) -> output logits
}}
data pictures {{
    source npz
}}
train T {{
    model     M
    data      pictures
    loss      cross_entropy
    optimizer sgd(lr=0.1, momentum=0.9)
    regularize {regularize}
    batch     {batch}
    epochs    1
}}
"""

BODIES = {
    "chain": f"repeat({LAYERS}, conv({CHANNELS}, 3, pad=1) -> relu)",
    "residual": f"repeat({LAYERS}, residual(conv({CHANNELS}, 3, pad=1) -> batch_norm -> relu) -> relu)",
    "branches": f"repeat(3, fork(conv({CHANNELS}, 1), conv({CHANNELS}, 3, pad=1) -> tanh, max_pool(3, 1, 1)) -> concat)",
}


def step(folder: Path, name: str, regularize: str = "l2(1e-4)") -> Graph:
    path = folder / "m.dlspec"
    text = SPEC.format(body=BODIES[name], channels=CHANNELS, size=SIZE, batch=BATCH, regularize=regularize)
    path.write_text(text)
    graph = build_training(recipe_of(path), BATCH, prepare=lambda g: PackWeights(16)(Simplify()(g)))
    return Recompute()(Simplify(expand_norms=True)(Simplify()(graph)))


@pytest.mark.parametrize("regularize", ["l2(1e-4)", "clip_norm(1)"])
@pytest.mark.parametrize("name", BODIES)
def test_every_kernel_runs_behind_what_it_reads_and_before_that_is_overwritten(
    tmp_path: Path, name: str, regularize: str
) -> None:
    schedule = emit.order(step(tmp_path, name, regularize))
    place = {r: i for i, call in enumerate(schedule.calls) for r in call.kernel.results}
    for part, whole in schedule.inside.items():
        place[whole] = max(place.get(whole, 0), place[part])
    overwritten = {parameter: place[value] for value, parameter in schedule.homes.items()}

    for i, call in enumerate(schedule.calls):
        for operand in call.kernel.inputs:
            origin = root(operand)
            assert place.get(origin, -1) < i
            assert overwritten.get(origin, i) >= i


@pytest.mark.parametrize("regularize", ["l2(1e-4)", "clip_norm(1)"])
def test_gradients_by_activations_do_not_wait_for_all_others(tmp_path: Path, regularize: str) -> None:
    """Each layer's result is alive until its own backward pass, its gradient until the layer's weight gradient."""
    schedule = emit.order(step(tmp_path, "chain", regularize))
    program = emit.program(schedule, [("", "")] * len(schedule.calls), BATCH, Target.parse("cpu"))
    image = 4 * BATCH * SIZE * SIZE * CHANNELS
    gradients = 4 * LAYERS * CHANNELS * CHANNELS * 9 if regularize.startswith("clip") else 0

    plan = plan_memory(program, BATCH)

    assert plan.needed <= (LAYERS + 3) * image + gradients + 2**16
    assert plan.peak <= 1.02 * plan.needed
