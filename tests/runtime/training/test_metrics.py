import numpy as np
import pytest
import torch

from dlc.compiler.catalog import catalog
from dlc.runtime.arguments import ArgumentError
from dlc.runtime.training.metrics.base import Metric
from dlc.runtime.training.metrics.confusion import Confusion
from dlc.runtime.training.metrics.cross_entropy import CrossEntropy
from dlc.runtime.training.metrics.error import Accuracy, Error, TopKError
from dlc.runtime.training.stopping.base import Stopping
from dlc.runtime.training.stopping.early import Early

SCORES = np.random.default_rng(0).normal(size=(200, 10)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 10, 200).astype(np.int32)


def test_error_and_accuracy_count_the_highest_score():
    wrong = int((SCORES.argmax(1) != LABELS).sum())

    assert Error().total(SCORES, LABELS) == wrong
    assert Accuracy().total(SCORES, LABELS) == 200 - wrong


def test_the_confusion_matrix_counts_truths_by_answers():
    matrix = Confusion().result(Confusion().total(SCORES, LABELS) + Confusion().total(SCORES, LABELS), 400)
    expected = np.zeros((10, 10), np.int64)
    for truth, answer in zip(LABELS, SCORES.argmax(1), strict=True):
        expected[truth, answer] += 2

    assert matrix == expected.tolist()


@pytest.mark.parametrize("k", [1, 3, 5, 10, 12])
def test_top_k_error_is_torchs(k):
    best = torch.tensor(SCORES).topk(min(k, 10)).indices.numpy()

    assert TopKError(k).total(SCORES, LABELS) == (best != LABELS[:, None]).all(1).sum()


def test_equal_scores_go_to_the_lower_class_as_argmax_has_it():
    scores = np.zeros((3, 3), np.float32)

    assert Error().total(scores, np.array([0, 1, 2])) == 2
    assert TopKError(2).total(scores, np.array([0, 1, 2])) == 1


def test_a_nan_is_never_right():
    scores = np.full((2, 3), np.nan, np.float32)

    assert Error().total(scores, np.array([0, 1])) == 2
    assert TopKError(3).total(scores, np.array([0, 1])) == 2


def test_cross_entropy_is_torchs():
    want = torch.nn.functional.cross_entropy(
        torch.tensor(SCORES), torch.tensor(LABELS.astype(np.int64)), reduction="sum"
    )

    assert CrossEntropy().total(SCORES, LABELS) == pytest.approx(float(want), rel=1e-5)
    assert CrossEntropy().total(SCORES * 1e30, LABELS) > 0


def test_top_k_error_carries_its_number_in_the_log():
    assert TopKError(5).name == "top_5_error"
    with pytest.raises(ArgumentError, match="must be 1 or more"):
        TopKError(0)


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "stops"),
    [
        ([3, 2, 1], 1, 0, False),
        ([1, 2], 1, 0, True),
        ([1, 2], 2, 0, False),
        ([1, 2, 2, 0.5, 2, 2], 3, 0, False),
        ([1, 1, 1], 2, 0, True),
        ([1.0, 0.95, 0.9], 2, 0.2, True),
        ([1.0, 0.7, 0.4], 2, 0.2, False),
        ([], 1, 0, False),
    ],
)
def test_early_stopping_waits_for_its_patience(values, patience, min_delta, stops):
    assert Early("val.loss", patience, min_delta).stops([{"val.loss": v} for v in values]) is stops


def test_an_accuracy_is_meant_to_grow():
    rising = [{"val.accuracy": v} for v in (0.1, 0.2, 0.3)]

    assert not Early("val.accuracy", 1).stops(rising)
    assert Early("val.accuracy", 1).stops(rising[::-1])


def test_catalogs_hold_what_the_language_names():
    assert set(catalog("dlc.runtime.training.metrics", Metric)) == {
        "accuracy", "confusion", "cross_entropy", "error", "top_k_error",
    }  # fmt: skip
    assert set(catalog("dlc.runtime.training.stopping", Stopping)) == {"early"}


def test_patience_of_nothing_is_refused():
    with pytest.raises(ArgumentError, match="patience"):
        Early("val.loss", 0)
