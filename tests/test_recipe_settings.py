"""What a recipe adds to the compiled step does what PyTorch's twin of it does: averages, parts, groups, clipping, mixed labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

import dlc
from dlc.api import recipe_of
from dlc.compiler.recipe import Recipe
from dlc.training import TrainingSession

STEPS, BATCH, RATE = 12, 12, 0.1
SPEC = """
model Small {{
    input image: [2, 6, 6]
    image -> c1: conv(4, 3) -> {between} -> flatten -> f1: linear(9) -> tanh -> out: linear(5) -> output y
}}
data digits {{
    source npz
}}
train T {{
    model Small
    data digits
    loss {loss}
    batch {batch}
    epochs 1
    seed 3
    {more}
}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    def make(
        more: str = "", *, optimizer: str = f"sgd(lr={RATE}, momentum=0.9)", loss: str = "cross_entropy",
        between: str = "tanh", batch: int = BATCH,
    ) -> Recipe:  # fmt: skip
        path = tmp_path / "small.dlspec"
        lines = f"optimizer {optimizer}\n    " + more.replace("; ", "\n    ")
        path.write_text(SPEC.format(between=between, loss=loss, batch=batch, more=lines))
        return recipe_of(path)

    return make


def batches(count: int = STEPS, batch: int = BATCH) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    r = np.random.default_rng(0)
    for _ in range(count):
        labels = r.integers(0, 5, batch).astype(np.int32)
        images = r.normal(size=(batch, 2, 6, 6)) + labels[:, None, None, None] / 3
        yield images.astype(np.float32), labels


def train(session: TrainingSession, count: int = STEPS, **more: np.ndarray) -> list[float]:
    """The losses of the steps."""
    names = {spec.name for spec in session.step.program.inputs}
    losses = []
    for step, (images, labels) in enumerate(batches(count)):
        feeds = {"image": images, "train.labels": labels, "train.step": np.uint32(step), "train.seed": np.uint32(3)}
        feeds |= {"train.rate.0": np.float32(RATE), "train.rate.1": np.float32(RATE), **more}
        losses.append(float(session.step.run({k: v for k, v in feeds.items() if k in names})["train.loss"]))
    return losses


def weights(session: TrainingSession) -> dict[str, np.ndarray]:
    """Everything the session holds, canonical."""
    program = session.step.program
    return {
        s.name: np.array(session.arrays[s.name] if s.layout is None else s.layout.unpack(session.arrays[s.name]))
        for s in program.weights
        if s.role != "derived"
    }


class Twin(torch.nn.Module):
    """The same network in torch, from the session's weights, in float64."""

    def __init__(self, given: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.c1, self.f1, self.out = torch.nn.Conv2d(2, 4, 3), torch.nn.Linear(64, 9), torch.nn.Linear(9, 5)
        self.double()
        self.load_state_dict({k: torch.tensor(v, dtype=torch.float64) for k, v in given.items() if "@" not in k})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.c1(x)).flatten(1)
        return self.out(torch.tanh(self.f1(x)))


@dataclass
class TorchRun:
    """Trains the twin with hooks where the recipes differ."""

    module: Twin
    optimizer: torch.optim.Optimizer
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = F.cross_entropy
    before_step: Callable[[Twin], None] = lambda module: None
    after_step: Callable[[Twin], None] = lambda module: None

    def run(self, count: int = STEPS) -> dict[str, np.ndarray]:
        for images, labels in batches(count):
            self.optimizer.zero_grad()
            self.loss(self.module(torch.tensor(images).double()), torch.tensor(labels).long()).backward()
            self.before_step(self.module)
            self.optimizer.step()
            self.after_step(self.module)
        return {k: v.detach().numpy() for k, v in self.module.state_dict().items()}


def sgd(module: Twin) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), RATE, momentum=0.9)


def assert_equal(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("ramp", [False, True])
def test_averages_are_torchs_and_what_evaluation_reads(recipe: Callable[..., Recipe], ramp: bool) -> None:
    session = TrainingSession(recipe(f"average ema(0.8, ramp={'true' if ramp else 'false'})"))
    twin = Twin(weights(session))
    shares = iter([min(0.8, (1 + t) / (10 + t)) if ramp else 0.8 for t in range(1, STEPS + 1)])
    average = AveragedModel(twin, avg_fn=lambda a, w, n: get_ema_avg_fn(share)(a, w, n))
    share = 0.0
    average.update_parameters(twin)  # the first time it copies

    def after(module: Twin) -> None:
        nonlocal share
        share = next(shares)
        average.update_parameters(module)

    train(session)
    expected = TorchRun(twin, sgd(twin), after_step=after).run()
    images, _ = next(batches())
    scores = session.evaluation.run({"image": images})["y"]

    ours = weights(session)
    assert_equal(ours, expected)
    for name, array in average.module.state_dict().items():
        np.testing.assert_allclose(ours[f"{name}@average"], array.numpy(), rtol=1e-3, atol=2e-4, err_msg=name)
    wanted = average.module(torch.tensor(images).double()).detach().numpy()
    np.testing.assert_allclose(scores, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("parts", [3, 12])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(recipe: Callable[..., Recipe], parts: int) -> None:
    extras = "regularize l2(1e-2), clip_norm(0.5); average ema(0.9)"
    whole = TrainingSession(recipe(extras, optimizer=f"adam(lr={RATE / 10})"))
    divided = TrainingSession(recipe(f"{extras}; accumulate {parts}", optimizer=f"adam(lr={RATE / 10})"))

    losses, same = train(whole), train(divided)

    np.testing.assert_allclose(same, losses, rtol=1e-3)
    assert divided.step.program.batch == BATCH
    assert not any(array.any() for name, array in divided.arrays.items() if name.endswith("@gradient"))
    assert_equal(weights(divided), weights(whole))


def test_each_part_of_a_step_draws_its_own_dropout(recipe: Callable[..., Recipe]) -> None:
    session = TrainingSession(recipe("accumulate 2", between="dropout(0.5)", batch=2))
    image = np.ones((1, 2, 6, 6), np.float32)
    feeds = {"image": np.concatenate([image, image]), "train.labels": np.zeros(2, np.int32)}
    feeds |= {"train.step": np.uint32(0), "train.seed": np.uint32(0), "train.rate.0": np.float32(0)}

    first, second = session.step.run(feeds)["y"]
    again = session.step.run(feeds)["y"]

    assert not np.allclose(first, second)
    assert np.array_equal(again, [first, second])


def test_batch_norm_takes_its_statistics_over_a_part(recipe: Callable[..., Recipe]) -> None:
    with pytest.warns(dlc.SpecWarning, match="batch norm takes its statistics over parts of 4 samples"):
        session = TrainingSession(recipe("accumulate 3", between="b1: batch_norm"))
    start = weights(session)
    images, labels = next(batches())
    feeds = {"image": images, "train.labels": labels, "train.step": np.uint32(0), "train.seed": np.uint32(0)}

    session.step.run({k: v for k, v in feeds.items() if "s" in k} | {"train.rate.0": np.float32(0), "image": images})

    norm = torch.nn.BatchNorm2d(4)
    for part in np.split(images, 3):
        norm(F.conv2d(torch.tensor(part), torch.tensor(start["c1.weight"]), torch.tensor(start["c1.bias"])))
    np.testing.assert_allclose(weights(session)["b1.running_mean"], norm.running_mean.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weights(session)["b1.running_var"], norm.running_var.numpy(), rtol=1e-4, atol=1e-5)


def test_a_frozen_group_stays_and_costs_no_gradient(recipe: Callable[..., Recipe]) -> None:
    session = TrainingSession(recipe(optimizer=f"sgd(lr={RATE}, momentum=0.9), frozen for c1"))
    start = weights(session)
    twin = Twin(start)
    twin.c1.requires_grad_(False)

    train(session)
    expected = TorchRun(twin, sgd(twin)).run()

    assert not any(name.startswith("c1") and "@" in name for name in session.arrays)
    assert np.array_equal(weights(session)["c1.weight"], start["c1.weight"])
    assert not any("weight_gradient" in s.what and s.layer == "c1" for s in session.step.program.steps)
    assert_equal(weights(session), expected)


def test_groups_have_rates_and_decay_of_their_own(recipe: Callable[..., Recipe]) -> None:
    optimizer = f"sgd(lr={RATE}, momentum=0.9), sgd(lr={RATE}) for *.bias"
    session = TrainingSession(
        recipe("regularize l2(0.01), l2(0.1) for f1, l1(0.003) for out.weight", optimizer=optimizer)
    )
    twin = Twin(weights(session))
    decays = {"c1": 0.01, "f1": 0.1, "out": 0.01}
    groups = [
        {"params": [p], "weight_decay": decays[n.partition(".")[0]], "momentum": 0.0 if n.endswith("bias") else 0.9}
        for n, p in twin.named_parameters()
    ]

    def lasso(module: Twin) -> None:
        assert module.out.weight.grad is not None
        module.out.weight.grad += 0.003 * module.out.weight.detach().sign()

    train(session)
    expected = TorchRun(twin, torch.optim.SGD(groups, RATE), before_step=lasso).run()

    assert_equal(weights(session), expected)


@pytest.mark.parametrize(
    ("rule", "clip"),
    [
        ("clip_norm(0.3)", lambda m: torch.nn.utils.clip_grad_norm_(m.parameters(), 0.3)),
        ("clip_value(0.01)", lambda m: torch.nn.utils.clip_grad_value_(m.parameters(), 0.01)),
        ("clip_norm(0.1) for out", lambda m: torch.nn.utils.clip_grad_norm_(m.out.parameters(), 0.1)),
    ],
)
def test_gradients_are_clipped_as_torch_clips_them(
    recipe: Callable[..., Recipe], rule: str, clip: Callable[[Twin], None]
) -> None:
    session = TrainingSession(recipe(f"regularize {rule}"))
    twin = Twin(weights(session))

    train(session)
    expected = TorchRun(twin, sgd(twin), before_step=clip).run()

    assert_equal(weights(session), expected)


def test_the_rate_is_given_at_each_step_and_compiled_into_none(recipe: Callable[..., Recipe]) -> None:
    session = TrainingSession(recipe(optimizer="sgd(lr=0.1)"))
    start = {name: array.copy() for name, array in session.arrays.items()}
    images, labels = next(batches())
    moves = []
    for rate in (0.1, 0.2):
        for name, array in start.items():
            session.arrays[name][...] = array
        session.step.run({"image": images, "train.labels": labels, "train.rate.0": np.float32(rate)} | counts(session))
        moves.append(session.arrays["out.bias"] - start["out.bias"])

    np.testing.assert_allclose(moves[1], 2 * moves[0], rtol=1e-4, atol=1e-7)


def counts(session: TrainingSession) -> dict[str, np.ndarray]:
    """The step's number and the seed, where the program asks for them."""
    names = {spec.name for spec in session.step.program.inputs}
    return {name: np.uint32(0) for name in ("train.step", "train.seed") if name in names}


@dataclass(frozen=True)
class Mixes:
    """Stands for an augmentation that mixes samples."""

    def mix(self) -> None:
        """What tells such an augmentation from others."""


def test_mixed_samples_are_judged_by_both_labels(recipe: Callable[..., Recipe]) -> None:
    plain = recipe(loss="cross_entropy(label_smoothing=0.1)")
    session = TrainingSession(replace(plain, data=replace(plain.data, augment=(Mixes(),))))
    twin = Twin(weights(session))
    other = np.arange(BATCH).astype(np.int32) % 5

    share = np.linspace(0, 1, BATCH).astype(np.float32)

    def loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        both = [
            F.cross_entropy(scores, y, label_smoothing=0.1, reduction="none")
            for y in (labels, torch.tensor(other).long())
        ]
        return (torch.tensor(share) * both[0] + (1 - torch.tensor(share)) * both[1]).mean()

    train(session, **{"train.other_labels": other, "train.share": share})
    expected = TorchRun(twin, sgd(twin), loss).run()

    assert_equal(weights(session), expected)


OPTIMIZERS = {
    "sgd(lr=0.1)": lambda p: torch.optim.SGD(p, 0.1),
    "sgd(lr=0.1, momentum=0.9, nesterov=true)": lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True),
    "adam(lr=0.1)": lambda p: torch.optim.Adam(p, 0.1),
    "adamw(lr=0.1)": lambda p: torch.optim.AdamW(p, 0.1),
    "adagrad(lr=0.1)": lambda p: torch.optim.Adagrad(p, 0.1),
    "rmsprop(lr=0.1, momentum=0.5)": lambda p: torch.optim.RMSprop(p, 0.1, momentum=0.5),
    "rprop(lr=0.1)": lambda p: torch.optim.Rprop(p, 0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.filterwarnings("ignore:.*rprop:dlc.SpecWarning")
def test_every_optimizer_is_compiled_right(recipe: Callable[..., Recipe], optimizer: str) -> None:
    session = TrainingSession(recipe(optimizer=optimizer))
    twin = Twin(weights(session))

    losses = train(session, 3)
    expected = TorchRun(twin, OPTIMIZERS[optimizer](twin.parameters())).run(3)

    assert np.isfinite(losses).all()
    for name, array in expected.items():
        np.testing.assert_allclose(weights(session)[name], array, rtol=1e-3, atol=2e-3, err_msg=name)
