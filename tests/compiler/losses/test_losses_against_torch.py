"""Every loss and its gradient by the output are torch's, in float64, by the interpreter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dlc.compiler.autodiff import gradients
from dlc.compiler.catalog import catalog
from dlc.compiler.interpret import evaluate
from dlc.compiler.ir import DType, Input, ShapeError, TensorType, source
from dlc.compiler.layers.base import ArgumentError
from dlc.compiler.losses.base import Loss
from dlc.compiler.losses.cross_entropy import CrossEntropy, NegativeLogLikelihood
from dlc.compiler.losses.margin import Hinge, RbfMap
from dlc.compiler.losses.regression import BinaryCrossEntropy, Huber, MeanAbsoluteError, MeanSquaredError

T = torch.Tensor
LABELS = np.array([0, 3, 1, 3, 2], np.int32)


def hot(y: T, classes: int = 4) -> T:
    return F.one_hot(y, classes).double()


def others(x: T, y: T) -> T:
    target = torch.where(hot(y) > 0, 0.8, 0.2 / 3)
    return -(target * F.log_softmax(x, 1)).sum(1).mean()


def lenet5(x: T, y: T) -> T:
    penalties = -x
    own = penalties.gather(1, y[:, None])[:, 0]
    return (own + torch.log(np.exp(-0.1) + torch.exp(-penalties).sum(1))).mean()


CASES: list[tuple[Loss, int, Callable[[T, T], T]]] = [
    (CrossEntropy(), 4, F.cross_entropy),
    (CrossEntropy(0.2), 4, lambda x, y: F.cross_entropy(x, y, label_smoothing=0.2)),
    (CrossEntropy(0.2, "others"), 4, others),
    (NegativeLogLikelihood(), 4, F.nll_loss),
    (MeanSquaredError(), 4, lambda x, y: F.mse_loss(x, hot(y))),
    (MeanSquaredError(), 1, lambda x, y: F.mse_loss(x, y[:, None].double())),
    (MeanAbsoluteError(), 4, lambda x, y: F.l1_loss(x, hot(y))),
    (Huber(0.7), 4, lambda x, y: F.huber_loss(x, hot(y), delta=0.7)),
    (BinaryCrossEntropy(), 4, lambda x, y: F.binary_cross_entropy_with_logits(x, hot(y))),
    (Hinge(), 4, F.multi_margin_loss),
    (Hinge(0.5, squared=True), 4, lambda x, y: F.multi_margin_loss(x, y, p=2, margin=0.5)),
    (RbfMap(), 4, lenet5),
]


@pytest.mark.parametrize(("loss", "classes", "reference"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_a_loss_and_its_gradient_are_torchs(loss: Loss, classes: int, reference: Callable[[T, T], T]) -> None:
    scores = 2 * np.random.default_rng(1).normal(size=(len(LABELS), classes))
    output = source(Input("output", TensorType(scores.shape)))
    labels = source(Input("labels", TensorType(LABELS.shape, DType.INT32)))
    tensor = torch.tensor(scores, requires_grad=True)

    loss.check((classes,))
    value = loss.build(output, labels)
    result, slope = evaluate([value, *gradients(value, [output])], {"output": scores, "labels": LABELS})
    expected = reference(tensor, torch.tensor(LABELS, dtype=torch.int64))
    expected.backward()

    assert value.type == TensorType(())
    np.testing.assert_allclose(result, expected.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(slope, tensor.grad.numpy(), rtol=1e-6, atol=1e-7)


def test_every_loss_is_compared_with_torch() -> None:
    assert {loss.keyword for loss, _, _ in CASES} == set(catalog("dlc.compiler.losses", Loss))


def test_the_rbf_criterion_does_not_overflow_far_from_the_prototypes() -> None:
    output = source(Input("output", TensorType((1, 2))))
    labels = source(Input("labels", TensorType((1,), DType.INT32)))
    value = RbfMap().build(output, labels)

    (result,) = evaluate([value], {"output": np.array([[-2000.0, -3000.0]]), "labels": np.array([1], np.int32)})

    np.testing.assert_allclose(result, 3000 - 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "output", "message"),
    [
        (CrossEntropy(), (3, 4, 4), "cross_entropy needs an output [classes], not [3, 4, 4]"),
        (CrossEntropy(), (1,), "cross_entropy needs at least 2 classes, the output is [1]"),
        (Hinge(), (1,), "hinge needs at least 2 classes, the output is [1]"),
    ],
)
def test_an_output_that_does_not_suit_is_refused(loss: Loss, output: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        loss.check(output)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: CrossEntropy(1.0), "label_smoothing"),
        (lambda: CrossEntropy(-0.1), "label_smoothing"),
        (lambda: Hinge(0.0), "margin"),
        (lambda: Huber(-1.0), "delta"),
    ],
)
def test_a_wrong_argument_is_named(make: Callable[[], Loss], field: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make()

    assert caught.value.field == field
