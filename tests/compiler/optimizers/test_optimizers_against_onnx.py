"""One step of Adam, AdaGrad and Momentum is what the node tests of the onnx package expect of its training operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx.backend.test.case.node.adagrad as adagrad
import onnx.backend.test.case.node.adam as adam
import onnx.backend.test.case.node.momentum as momentum
import pytest
from onnx import NodeProto, helper

from dlc.compiler.interpret import evaluate
from dlc.compiler.ir import DType, Input, Parameter, TensorType, source
from dlc.compiler.ops.elementwise import add, multiply
from dlc.compiler.optimizers.adam import Adam
from dlc.compiler.optimizers.adaptive import AdaGrad
from dlc.compiler.optimizers.base import Optimizer, OptimizerScalars
from dlc.compiler.optimizers.sgd import Sgd

Case = tuple[NodeProto, Sequence[np.ndarray], Sequence[np.ndarray]]


def collected() -> dict[str, Case]:
    """The package's cases by name: what its scripts would write down."""
    found: dict[str, Case] = {}

    def expect(node: NodeProto, inputs: Any, outputs: Any, name: str, **_: Any) -> None:
        found[name] = node, inputs, outputs

    for module, family in ((adam, adam.Adam), (adagrad, adagrad.Adagrad), (momentum, momentum.Momentum)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "expect", expect)
            for name in dir(family):
                if name.startswith("export_"):
                    getattr(family, name)()
    return found


CASES = collected()


def optimizer_of(node: NodeProto) -> tuple[Optimizer, Sequence[str], float]:
    """Our optimizer, the names of its states in the operator's order, and the rate of l2."""
    facts = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    l2 = facts["norm_coefficient"]
    if node.op_type == "Adam":
        made = Adam(beta1=facts["alpha"], beta2=facts["beta"], eps=facts["epsilon"], bias_correction=False)
        return made, ("mean", "square"), l2
    if node.op_type == "Adagrad":
        assert facts["decay_factor"] in (0.0, np.float32(0.1))  # of no effect at the first step, which all cases make
        return AdaGrad(eps=facts["epsilon"]), ("square",), l2
    return Sgd(momentum=facts["alpha"], nesterov=facts["mode"] == b"nesterov"), ("momentum",), l2


def test_all_cases_are_there() -> None:
    assert set(CASES) == {
        "test_adam", "test_adam_multiple", "test_adagrad", "test_adagrad_multiple", "test_momentum",
        "test_momentum_multiple", "test_nesterov_momentum",
    }  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_the_operators(name: str) -> None:
    node, (rate, step, *tensors), expected = CASES[name]
    optimizer, states, l2 = optimizer_of(node)
    count = len(tensors) // (2 + len(states))
    assert step == 0

    for i in range(count):
        start, gradient, *before = tensors[i::count]
        wanted = expected[i::count]
        shape = TensorType(start.shape)
        parameter = source(Parameter("w", shape))
        state = {n: source(Parameter(n, shape)) for n in optimizer.state()}
        scalars = OptimizerScalars(
            source(Input("rate", TensorType(()))), source(Input("step", TensorType((), DType.UINT32)))
        )
        slope = add(source(Input("gradient", shape)), multiply(parameter, l2))
        moved, after = optimizer.update(parameter, slope, state, scalars)
        feeds = {"w": start, "gradient": gradient, "rate": rate, "step": np.uint32(step)}
        results = evaluate([moved, *(after[n] for n in states)], feeds | dict(zip(states, before, strict=True)))

        for ours, theirs in zip(results, wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)
