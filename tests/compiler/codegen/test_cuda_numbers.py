"""What kernels for GPUs compute, found out without one: their CUDA source runs as coroutines on the processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import dlc
from dlc import api
from dlc.compiler.build import build_inference
from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.compiled import Compiled
from dlc.compiler.codegen.target import Target
from dlc.compiler.folding import folding
from dlc.compiler.initial import initial_state, initial_weights
from dlc.compiler.network import inference_form
from dlc.compiler.passes import PackWeights, Simplify
from dlc.compiler.pipeline import compile_training, pack
from dlc.runtime.arrays import aligned_copy
from dlc.runtime.executor import Executor

SPECS = Path(dlc.__file__).parent / "specs"


def executors(host: Compiled, device: Compiled, weights: dict[str, np.ndarray], functions: Any) -> list[Executor]:
    """The two programs, each with its own copy of the weights."""
    program = msgspec.structs.replace(device.program, device="cpu")
    made = []
    for run, compiled, function in ((host.program, host, host.function), (program, device, functions)):
        made.append(Executor(run, function, {n: aligned_copy(a) for n, a in pack(compiled, weights).items()}))
    return made


def test_the_forward_pass_gives_the_processors_numbers(emulated: Callable[..., Any]) -> None:
    network = folding(inference_form(api.one_network(SPECS / "lenet5.dlspec", model="LeNet5"))).network
    graph = Simplify()(build_inference(network))
    targets = Target.parse("cpu"), Target.parse("cuda:sm_90")
    host, device = (compile_graph(PackWeights(t.lanes)(graph), t, batch=3) for t in targets)
    right, found = executors(host, device, api.fresh_weights(network), emulated(device))
    images = np.random.default_rng(0).standard_normal((3, 1, 32, 32), np.float32)

    np.testing.assert_allclose(found.execute([images])[0], right.execute([images])[0], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_training_steps_give_the_processors_numbers(emulated: Callable[..., Any]) -> None:
    recipe = api.recipe_of(SPECS / "lenet5.dlspec", settings=["train.batch=6"])
    host, device = (compile_training(recipe, Target.parse(t), recipe.batch) for t in ("cpu", "cuda:sm_90"))
    weights = {**initial_weights(recipe.network, recipe), **initial_state(recipe)}
    right, found = executors(host, device, weights, emulated(device))
    generator = np.random.default_rng(0)

    for step in range(2):
        inputs: dict[str, Any] = {}
        for spec in host.program.inputs:
            if len(spec.shape) == 4:
                inputs[spec.name] = generator.standard_normal(spec.shape, np.float32)
            elif spec.shape:
                inputs[spec.name] = generator.integers(0, 10, spec.shape).astype(spec.dtype)
            else:
                inputs[spec.name] = np.asarray(0.1 if spec.dtype == "float32" else step, spec.dtype)
        expected = right.run(inputs)
        for name, array in found.run(inputs).items():
            np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-4, err_msg=name)
