"""Schedules against torch's, and in sequence."""

import numpy as np
import pytest
import torch

from dlc.compiler.catalog import catalog
from dlc.runtime.arguments import ArgumentError
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.training.rates import Rates
from dlc.runtime.training.schedules.base import Condition, Duration, Schedule
from dlc.runtime.training.schedules.constant import Constant
from dlc.runtime.training.schedules.cosine import Cosine
from dlc.runtime.training.schedules.cyclic import Cyclic
from dlc.runtime.training.schedules.exponential import Exponential
from dlc.runtime.training.schedules.inverse import Inverse
from dlc.runtime.training.schedules.one_cycle import OneCycle
from dlc.runtime.training.schedules.polynomial import Polynomial
from dlc.runtime.training.schedules.reduce_on_plateau import ReduceOnPlateau
from dlc.runtime.training.schedules.step import MultiStep, Step
from dlc.runtime.training.schedules.warmup import Warmup

EPOCHS, PER_EPOCH, BASE = 6, 10, 0.2
STEPS = EPOCHS * PER_EPOCH
lr = torch.optim.lr_scheduler


def epochs(n):
    return Duration(n, "epoch")


def ours(*schedules, base=BASE):
    rates = Rates(schedules, [base], steps=STEPS, steps_per_epoch=PER_EPOCH)
    return [rates.at(step)[0] for step in range(STEPS)]


def theirs(make, per_epoch=False):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE)
    schedule = make(optimizer)
    found = []
    for step in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if not per_epoch or (step + 1) % PER_EPOCH == 0:
            schedule.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "make", "per_epoch"),
    [
        (Step(epochs(2), 0.3), lambda o: lr.StepLR(o, 2, 0.3), True),
        (Step(Duration(7, "step"), 0.9), lambda o: lr.StepLR(o, 7, 0.9), False),
        (MultiStep((epochs(1), epochs(4)), 0.1), lambda o: lr.MultiStepLR(o, [1, 4], 0.1), True),
        (Exponential(0.8), lambda o: lr.ExponentialLR(o, 0.8), True),
        (Cosine(), lambda o: lr.CosineAnnealingLR(o, STEPS), False),
        (Cosine(to=0.01, per="epoch"), lambda o: lr.CosineAnnealingLR(o, EPOCHS, 0.01), True),
        (Polynomial(power=2), lambda o: lr.PolynomialLR(o, STEPS, 2), False),
        (Polynomial(per="epoch"), lambda o: lr.PolynomialLR(o, EPOCHS), True),
        (Warmup(epochs(2), from_=0.02), lambda o: lr.LinearLR(o, 0.1, 1.0, 20), False),
        (Inverse(0.1, 0.75), lambda o: lr.LambdaLR(o, lambda t: (1 + 0.1 * t) ** -0.75), False),
        (OneCycle(), lambda o: lr.OneCycleLR(o, BASE, STEPS), False),
        (OneCycle(rise=0.45, start=10, end=100), lambda o: lr.OneCycleLR(o, BASE, STEPS, pct_start=0.45, div_factor=10, final_div_factor=100), False),
        (Constant(), lambda o: lr.ConstantLR(o, 1.0), False),
        (Cyclic(0.02, Duration(7, "step")), lambda o: lr.CyclicLR(o, 0.02, BASE, 7, cycle_momentum=False), False),
        (Cyclic(0.02, Duration(5, "step"), Duration(9, "step"), "triangular2"), lambda o: lr.CyclicLR(o, 0.02, BASE, 5, 9, "triangular2", cycle_momentum=False), False),
        (Cyclic(0.02, epochs(1), form="exp_range", gamma=0.97), lambda o: lr.CyclicLR(o, 0.02, BASE, 10, mode="exp_range", gamma=0.97, cycle_momentum=False), False),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's warnings about the order of its calls
def test_a_schedule_is_torchs(schedule, make, per_epoch):
    assert ours(schedule) == pytest.approx(theirs(make, per_epoch), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("schedule", "mode", "more"),
    [
        (ReduceOnPlateau("val.loss", 0.5, 2), "min", {}),
        (ReduceOnPlateau("val.loss", 0.3, 1, cooldown=3, least=0.004), "min", {"cooldown": 3, "min_lr": 0.004}),
        (ReduceOnPlateau("val.accuracy", 0.5, 0, threshold=0.05), "max", {"threshold": 0.05}),
    ],
)
def test_reducing_on_a_plateau_is_torchs(schedule, mode, more, seed):
    values = np.abs(np.random.default_rng(seed).normal(size=60)) + np.linspace(1, 0, 60) ** 4
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE)
    twin = lr.ReduceLROnPlateau(optimizer, mode, schedule.factor, schedule.patience, eps=0, **more)
    rates = Rates([schedule], [BASE], steps=60 * PER_EPOCH, steps_per_epoch=PER_EPOCH)
    history = []

    for epoch, value in enumerate(values):
        step = epoch * PER_EPOCH
        expected = optimizer.param_groups[0]["lr"]
        assert rates.at(step, history) == rates.at(step + PER_EPOCH - 1, history) == (pytest.approx(expected),)
        history.append({"step": step + PER_EPOCH, schedule.monitor: value})
        twin.step(value)
    assert expected < BASE


def test_a_plateau_in_a_sequence_counts_from_its_own_start():
    rates = Rates([Constant(epochs(3)), ReduceOnPlateau(patience=1)], [1.0], steps=STEPS, steps_per_epoch=PER_EPOCH)
    history = [{"step": (epoch + 1) * PER_EPOCH, "val.loss": 1.0} for epoch in range(6)]

    assert rates.at(20, history[:2]) == rates.at(30, history[:3]) == rates.at(40, history[:4]) == (1.0,)
    assert rates.at(50, history[:6]) == (pytest.approx(0.1),)


def test_a_schedule_lasts_until_its_condition_is_fulfilled():
    until = Constant(rate_=0.01, until=Condition("train.error", "<", 0.8))
    rates = Rates([until, MultiStep((epochs(1),), 0.1)], [0.1], steps=STEPS, steps_per_epoch=PER_EPOCH)

    assert rates.at(STEPS - 1) == (0.01,)
    assert rates.waits_for(7, {}) == (0, until.until)
    assert rates.waits_for(7, {0: 13}) is None
    assert [rates.at(step, (), {0: 13})[0] for step in (12, 13, 22, 23)] == [0.01, 0.1, 0.1, pytest.approx(0.01)]


def test_a_condition_with_a_duration_ends_with_the_first_of_the_two():
    both = Constant(epochs(2), until=Condition("val.error", ">", 0.5))
    rates = Rates([both, Constant(rate_=9.0)], [1.0], steps=STEPS, steps_per_epoch=PER_EPOCH)

    assert [rates.at(step)[0] for step in (19, 20)] == [1.0, 9.0]
    assert [rates.at(step, (), {0: 10})[0] for step in (9, 10)] == [1.0, 9.0]


def test_exponential_falls_smoothly_per_step():
    found = ours(Exponential(0.5, per="step"))

    assert found[10] == pytest.approx(BASE / 2)
    assert found[5] == pytest.approx(BASE * 0.5**0.5)


def test_a_sequence_starts_each_schedule_at_its_own_beginning():
    found = ours(Warmup(epochs(1)), Cosine(to=0.0))

    assert found[0] == 0
    assert found[9] == pytest.approx(0.9 * BASE)
    assert found[10] == BASE
    assert found[35] == pytest.approx(BASE / 2)
    assert 0 < found[59] < 0.001


def test_the_1998_schedule_is_a_sequence_of_constants():
    found = ours(*(Constant(epochs(n), rate) for n, rate in ((2, 5e-4), (3, 2e-4))), Constant(rate_=1e-4))

    assert [found[epoch * PER_EPOCH] for epoch in range(EPOCHS)] == [5e-4, 5e-4, 2e-4, 2e-4, 2e-4, 1e-4]


def test_after_the_last_schedule_its_final_rate_holds():
    assert ours(Warmup(epochs(1)))[10:] == [BASE] * 50
    assert ours(Cosine(to=0.05, duration=epochs(2)))[20:] == [0.05] * 40


def test_each_group_has_its_own_base_rate():
    rates = Rates([Step(epochs(1), 0.5)], [1.0, 0.1], steps=STEPS, steps_per_epoch=PER_EPOCH)

    assert rates.at(10) == (0.5, 0.05)


def test_without_schedules_the_rate_is_the_base():
    assert ours() == [BASE] * STEPS


def test_a_schedule_behind_one_that_never_ends_is_refused():
    with pytest.raises(RuntimeFault, match="`cosine` lasts to the end of training, so `step` never starts"):
        ours(Cosine(), Step(epochs(1)))


def test_a_warm_up_longer_than_training_is_cut_off():
    assert ours(Warmup(epochs(100)), Cosine())[-1] < 0.02


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Step(epochs(0)), "every"),
        (lambda: Step(epochs(1), 0), "factor"),
        (lambda: MultiStep(()), "at"),
        (lambda: MultiStep((epochs(-1),)), "at"),
        (lambda: Cosine(to=-1.0), "to"),
        (lambda: Warmup(epochs(0)), "duration"),
        (lambda: Warmup(epochs(1), from_=-1), "from"),
        (lambda: Constant(rate_=float("nan")), "rate"),
        (lambda: OneCycle(rise=1.5), "rise"),
        (lambda: Inverse(-1.0), "gamma"),
        (lambda: Cyclic(-0.1, epochs(1)), "low"),
        (lambda: Cyclic(0.1, epochs(0)), "rise"),
        (lambda: Cyclic(0.1, epochs(1), gamma=0.9), "gamma"),
        (lambda: Cyclic(0.1, epochs(1), form="exp_range", gamma=1.1), "gamma"),
        (lambda: ReduceOnPlateau(factor=1.0), "factor"),
        (lambda: ReduceOnPlateau(patience=-1), "patience"),
        (lambda: ReduceOnPlateau(threshold=1.0), "threshold"),
        (lambda: ReduceOnPlateau(cooldown=-1), "cooldown"),
    ],
)
def test_an_argument_without_sense_is_refused_by_name(make, field):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert caught.value.field == field


def test_every_schedule_is_in_the_catalog():
    assert set(catalog("dlc.runtime.training.schedules", Schedule)) == {
        "constant", "cosine", "cyclic", "exponential", "inverse", "multi_step", "one_cycle", "polynomial",
        "reduce_on_plateau", "step", "warmup",
    }  # fmt: skip
