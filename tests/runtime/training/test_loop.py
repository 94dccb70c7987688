import io
import json
import signal
import threading

import numpy as np
import pytest

from dlc.runtime.errors import RuntimeFault
from dlc.runtime.training.metrics.error import Accuracy, TopKError
from dlc.runtime.training.options import Interrupted
from dlc.runtime.training.progress import Lines, Silent, duration, progress_on
from dlc.runtime.training.schedules.base import Condition, Duration
from dlc.runtime.training.schedules.constant import Constant
from dlc.runtime.training.schedules.cosine import Cosine
from dlc.runtime.training.schedules.cyclic import Cyclic
from dlc.runtime.training.schedules.reduce_on_plateau import ReduceOnPlateau
from dlc.runtime.training.stopping.early import Early
from dlc.runtime.weights import load_weights

TIMES = ("seconds", "images_per_second")


def lines(out):
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


class StopsAt(Silent):
    """Raises, or sends this process a signal, when a step is done: a failure at a chosen moment."""

    def __init__(self, step, number=None):
        self.at, self.number = step, number

    def step(self, done, loss, error):
        if done == self.at:
            if self.number is None:
                raise KeyboardInterrupt
            signal.raise_signal(self.number)


def test_training_learns_and_writes_what_it_did(linear, tmp_path):
    trainer = linear.trainer(tmp_path, metrics=(Accuracy(), TopKError(2)), augment=())
    result = trainer.run()

    assert result.test["error"] <= 0.15
    assert result.test["accuracy"] == pytest.approx(1 - result.test["error"])
    assert (result.epochs, result.steps) == (6, 6 * trainer.steps_per_epoch)
    records = lines(tmp_path)
    assert [r["epoch"] for r in records] == [1, 2, 3, 4, 5, 6]
    assert set(records[0]) == {
        "epoch", "step", "lr", "train.loss", "train.error", "train.accuracy", "train.top_2_error",
        "val.loss", "val.error", "val.accuracy", "val.top_2_error",
    }  # fmt: skip
    assert records[-1]["train.loss"] < records[0]["train.loss"]
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["recipe"] == {"epochs": "6"}
    assert recipe["classes"] == list("abcd")
    assert recipe["preprocessing"]["height"] == 6


def test_weight_files_hold_canonical_weights_and_nothing_else(linear, tmp_path):
    trainer = linear.trainer(tmp_path)
    trainer.run()

    for name in ("last.safetensors", "best.safetensors"):
        weights = load_weights(tmp_path / name)
        assert {n: w.shape for n, w in weights.items()} == {
            "out.weight": (4, 36), "out.bias": (4,), "norm.running_mean": (1,),
        }  # fmt: skip


def test_the_best_weights_are_those_of_the_best_epoch_and_are_left_in_the_arrays(linear, tmp_path):
    trainer = linear.trainer(tmp_path, rates=(3.0,), schedules=(), epochs=9)
    result = trainer.run()
    errors = [r["val.error"] for r in lines(tmp_path)]
    again = linear.trainer(tmp_path / "short", rates=(3.0,), schedules=(), epochs=result.best_epoch)
    again.run()

    assert result.best_epoch == 1 + errors.index(min(errors))
    best, short = load_weights(tmp_path / "best.safetensors"), load_weights(tmp_path / "short" / "last.safetensors")
    assert all(np.array_equal(best[n], short[n]) for n in best)
    assert np.array_equal(linear.PACKED.unpack(trainer._step.weights["out.weight"]), best["out.weight"])


def test_without_validation_the_last_epoch_is_the_best(linear, tmp_path):
    result = linear.trainer(tmp_path, validate=0.0).run()

    assert result.best_epoch == 6
    assert (tmp_path / "best.safetensors").read_bytes() == (tmp_path / "last.safetensors").read_bytes()
    assert not any(name.startswith("val.") for name in lines(tmp_path)[0])


def test_the_step_gets_each_number_it_asks_for(linear, tmp_path):
    trainer = linear.trainer(tmp_path, epochs=2)
    trainer.run()
    seen = trainer._step.seen

    assert [int(s["train.step"]) for s in seen] == list(range(14))
    assert {s["train.seed"].dtype.name for s in seen} == {"uint32"}
    assert seen[0]["train.rate.0"] == 0 and seen[7]["train.rate.0"] == np.float32(0.2)
    assert seen[0]["train.labels"].dtype == np.int32
    assert seen[0]["image"].dtype == np.float32


@pytest.mark.parametrize("stop", [1, 2, 3, 7, 8, 20, 41])
def test_a_run_that_broke_off_goes_on_to_the_same_bits(linear, tmp_path, stop):
    whole = linear.trainer(tmp_path / "whole")
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        linear.trainer(tmp_path / "broken", progress=StopsAt(stop)).run()
    linear.trainer(tmp_path / "broken").run(resume=True)

    for name in ("last.safetensors", "best.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()
    assert lines(tmp_path / "whole") == lines(tmp_path / "broken")


WAITING = {
    "plateau": (ReduceOnPlateau("val.loss", 0.5, 0, threshold=0.2),),
    "until training": (Constant(rate_=0.01, until=Condition("train.loss", "<", 1.38)), Cosine()),
    "until validation": (Constant(until=Condition("val.error", "<", 0.5)), Constant(rate_=0.01)),
    "cyclic": (Cyclic(0.01, Duration(3, "step"), form="triangular2"),),
}


@pytest.mark.parametrize("stop", [6, 25, 28])
@pytest.mark.parametrize("schedules", WAITING)
def test_schedules_that_look_at_the_log_go_on_to_the_same_bits(linear, tmp_path, schedules, stop, monkeypatch):
    monkeypatch.setattr("dlc.runtime.training.loop.WINDOW", 5)
    settings = {"schedules": WAITING[schedules]}
    linear.trainer(tmp_path / "whole", **settings).run()
    with pytest.raises(KeyboardInterrupt):
        linear.trainer(tmp_path / "broken", progress=StopsAt(stop), **settings).run()
    linear.trainer(tmp_path / "broken", **settings).run(resume=True)

    assert len({record["lr"] for record in lines(tmp_path / "whole")}) > 1
    for name in ("last.safetensors", "best.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()
    assert lines(tmp_path / "whole") == lines(tmp_path / "broken")


def test_a_warm_up_ends_when_the_training_error_is_low_enough(linear, tmp_path, monkeypatch):
    monkeypatch.setattr("dlc.runtime.training.loop.WINDOW", 5)
    schedules = (Constant(rate_=0.01, until=Condition("train.error", "<", 0.6)), Constant(rate_=0.2))
    trainer = linear.trainer(tmp_path, schedules=schedules, augment=())
    trainer.run()
    rates = [float(seen["train.rate.0"]) for seen in trainer._step.seen]

    assert rates[0] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.2)
    assert sorted(rates) == rates
    assert rates.index(rates[-1]) >= 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_after_the_step_with_everything_saved(linear, tmp_path, number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="after step 11") as caught:
        linear.trainer(tmp_path, progress=StopsAt(11, number), save_steps=None).run()

    assert caught.value.signal == number
    assert "--resume" in caught.value.help
    assert signal.getsignal(number) is before
    resumed = linear.trainer(tmp_path)
    resumed.run(resume=True)
    assert int(resumed._step.seen[0]["train.step"]) == 11


def test_training_runs_in_a_thread_that_gets_no_signals(linear, tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(linear.trainer(tmp_path).run()))
    thread.start()
    thread.join()

    assert results[0].epochs == 6


def test_a_finished_run_is_only_evaluated(linear, tmp_path):
    first = linear.trainer(tmp_path).run()
    trainer = linear.trainer(tmp_path)
    second = trainer.run(resume=True)

    assert trainer._step.seen == []
    assert second.test == first.test
    assert second.history == first.history


def test_resuming_with_nothing_saved_starts_at_the_beginning_and_says_so(linear, tmp_path):
    stream = io.StringIO()
    linear.trainer(tmp_path, progress=Lines(stream)).run(resume=True)

    assert "starting at the beginning" in stream.getvalue()
    assert len(lines(tmp_path)) == 6


def test_a_new_run_replaces_an_earlier_one(linear, tmp_path):
    linear.trainer(tmp_path).run()
    linear.trainer(tmp_path, epochs=2, recipe={}).run()

    assert len(lines(tmp_path)) == 2


def test_another_recipe_cannot_go_on(linear, tmp_path):
    linear.trainer(tmp_path).run()

    with pytest.raises(RuntimeFault, match="epochs was 6, now 7; seed was 5, now 6; steps was 42, now 49") as caught:
        linear.trainer(tmp_path, epochs=7, seed=6, recipe={"recipe": {"epochs": "7"}}).run(resume=True)
    assert caught.value.code == "R0426"


def test_other_augmentation_cannot_go_on(linear, tmp_path):
    linear.trainer(tmp_path, epochs=2).run()

    with pytest.raises(RuntimeFault, match=r"augment was \['Shift"):
        linear.trainer(tmp_path, epochs=2, augment=()).run(resume=True)


def test_other_data_cannot_go_on(linear, tmp_path):
    linear.trainer(tmp_path, epochs=2).run()

    with pytest.raises(RuntimeFault, match="samples was"):
        linear.trainer(tmp_path, steps=14, epochs=None, validate=0.26).run(resume=True)


@pytest.mark.parametrize("place", [0.0, 0.3])
def test_a_checkpoint_with_one_wrong_bit_is_a_clear_fault(linear, tmp_path, place):
    linear.trainer(tmp_path).run()
    path = tmp_path / "resume.safetensors"
    content = bytearray(path.read_bytes())
    header = int.from_bytes(content[:8], "little") + 8
    content[header + int(place * (len(content) - header))] ^= 1
    path.write_bytes(content)

    with pytest.raises(RuntimeFault, match=r"R0423.*damaged"):
        linear.trainer(tmp_path).run(resume=True)


@pytest.mark.parametrize("keep", [0, 7, 100, 2000])
def test_a_damaged_checkpoint_is_a_clear_fault(linear, tmp_path, keep):
    linear.trainer(tmp_path).run()
    path = tmp_path / "resume.safetensors"
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(RuntimeFault, match=r"resume\.safetensors"):
        linear.trainer(tmp_path).run(resume=True)


def test_weights_alone_are_not_a_checkpoint(linear, tmp_path):
    linear.trainer(tmp_path).run()
    (tmp_path / "resume.safetensors").write_bytes((tmp_path / "last.safetensors").read_bytes())

    with pytest.raises(RuntimeFault, match="nothing to go on from"):
        linear.trainer(tmp_path).run(resume=True)


def test_a_loss_that_is_not_a_number_stops_with_the_step_and_keeps_the_checkpoint(linear, tmp_path):
    with pytest.raises(RuntimeFault, match=r"the loss is nan at step 24 \(epoch 4\)") as caught:
        linear.trainer(tmp_path, broken_at=24).run()

    assert caught.value.code == "R0421"
    assert all(np.isfinite(w).all() for w in load_weights(tmp_path / "resume.safetensors").values())
    assert len(lines(tmp_path)) == 3


def test_weights_that_are_not_numbers_are_never_saved(linear, tmp_path):
    trainer = linear.trainer(tmp_path)
    run = trainer._step.run

    def spoil(inputs, outputs=None):
        result = run(inputs)
        if inputs["train.step"] == 20:
            trainer._step.weights["out.bias"][0] = np.inf
        return result

    trainer._step.run = spoil
    with pytest.raises(RuntimeFault, match=r"(out\.bias holds a NaN|is nan)"):
        trainer.run()
    assert all(np.isfinite(w).all() for w in load_weights(tmp_path / "resume.safetensors").values())


def test_a_disk_that_fills_up_leaves_the_checkpoint_before(linear, tmp_path, monkeypatch):
    class Fills(Silent):
        def step(self, done, loss, error):
            if done == 16:
                monkeypatch.setattr("os.fsync", full)

    def full(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(RuntimeFault, match="No space left on device"):
        linear.trainer(tmp_path, progress=Fills()).run()
    monkeypatch.undo()
    assert {p.name for p in tmp_path.iterdir()} == {
        "best.safetensors", "events.out.tfevents.dlc", "last.safetensors", "metrics.jsonl", "recipe.json",
        "resume.safetensors",
    }  # fmt: skip
    trainer = linear.trainer(tmp_path)
    trainer.run(resume=True)
    assert int(trainer._step.seen[0]["train.step"]) == 14
    assert len(lines(tmp_path)) == 6


def test_early_stopping_ends_the_run_and_a_resumed_one_stays_ended(linear, tmp_path):
    stop = Early("val.error", patience=2)
    stream = io.StringIO()
    first = linear.trainer(tmp_path, stop=stop, epochs=60, progress=Lines(stream)).run()
    again = linear.trainer(tmp_path, stop=stop, epochs=60).run(resume=True)

    assert first.epochs == first.best_epoch + 2 < 60
    assert "stopped early: val.error was best after epoch" in stream.getvalue()
    assert again.epochs == first.epochs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stop": Early("val.error"), "validate": 0.0}, "no samples are split off"),
        ({"stop": Early("val.f1")}, "not measured"),
        ({"epochs": None}, "`epochs` or `steps`"),
        ({"steps": 3}, "`epochs` or `steps`"),
        ({"epochs": 0.01}, "not a single step"),
        ({"batch": 500}, "a batch takes 500"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_before_training(linear, tmp_path, changes, message):
    with pytest.raises(RuntimeFault, match=message):
        linear.trainer(tmp_path, **changes)


def test_steps_end_in_the_middle_of_an_epoch(linear, tmp_path):
    result = linear.trainer(tmp_path, epochs=None, steps=10).run()

    assert (result.steps, result.epochs) == (10, 2)
    assert [r["step"] for r in lines(tmp_path)] == [7, 10]


def test_a_directory_that_cannot_be_made_is_a_clear_fault(linear, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(RuntimeFault, match="cannot write"):
        linear.trainer(tmp_path / "file" / "run").run()


def test_away_from_a_terminal_each_epoch_is_one_line(linear, tmp_path):
    stream = io.StringIO()
    linear.trainer(tmp_path, progress=Lines(stream)).run()

    shown = stream.getvalue().splitlines()
    assert len(shown) == 6
    assert shown[0].startswith("epoch 1/6  train.loss ")
    assert "val.error" in shown[0] and "images/s" in shown[0]


def test_on_a_terminal_there_is_a_bar_with_the_epochs_above_it(linear, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("dlc.runtime.training.progress.REFRESH", 0.0)
    stream = Terminal()
    linear.trainer(tmp_path, progress=progress_on(stream)).run()

    shown = stream.getvalue()
    assert "epoch 6/6" in shown
    assert " left" in shown
    assert sum("images/s" in line and "val.error" in line for line in shown.splitlines()) >= 6


@pytest.mark.parametrize(("seconds", "text"), [(4.23, "4.2 s"), (187, "3:07 min"), (8100, "2:15 h"), (59.99, "60.0 s")])
def test_times_are_shown_as_people_read_them(seconds, text):
    assert duration(seconds) == text
