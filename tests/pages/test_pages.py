"""Pages about runs: what they show, what their sentences say, and what a browser makes of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dlc.pages.chart import Axis, Line, line_chart, thinned
from dlc.pages.compare import compare_page
from dlc.pages.evaluation import first_filters, probabilities
from dlc.pages.findings import cut_epoch, findings
from dlc.pages.rates import rate_page
from dlc.pages.report import report_page
from dlc.pages.run import EVALUATION, Evaluation, LayerTime, Mistake, Run, read_run
from dlc.pages.scale import linear, logarithmic, number
from dlc.reporting import write_comparison, write_report
from dlc.runtime.errors import RuntimeFault

np = pytest.importorskip("numpy")

VOID = {"meta", "img", "br", "line", "rect", "path", "circle"}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


class Balanced(HTMLParser):
    """Checks that every element is closed, and keeps the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def history(train: list[float], validation: list[float] | None = None) -> list[dict[str, Any]]:
    """Epochs with these errors, and losses that go with them."""
    records: list[dict[str, Any]] = []
    for i, error in enumerate(train):
        record = {"epoch": i + 1, "step": 10 * (i + 1), "train.loss": 2 * error, "train.error": error, "lr": 0.1}
        if validation is not None:
            record |= {"val.loss": 2 * validation[i], "val.error": validation[i]}
        records.append({**record, "seconds": 1.5 * i, "images_per_second": 1000.0})
    return records


def run(train: list[float], validation: list[float] | None = None, **more: Any) -> Run:
    recipe = {"name": "R", "train": {"batch": "64", "model": "A<b>"}, "data": {"source": "mnist-mini"}}
    return Run(Path("runs/one"), "one", recipe, history(train, validation), **more)


EXAMPLE = Evaluation(
    ["a&b", "c"],
    [[5, 1], [0, 4]],
    [Mistake(3, 0, 1, 0.93, PIXEL)],
    [PIXEL],
    "conv.weight",
    [LayerTime("conv", 1.25), LayerTime("", 0.5)],
    64,
    {"error": 0.1},
    2,
)


def written(folder: Path, source: Run) -> Path:
    """The run as files."""
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps(source.recipe))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in source.history))
    if source.evaluation is not None:
        (folder / EVALUATION).write_bytes(msgspec.json.encode(source.evaluation))
    return folder


def test_a_report_shows_curves_confusion_mistakes_filters_and_times() -> None:
    layers = [{"step": s, "gradient.norm": {"c1": 0.1 / s, "c2": 2.0}} for s in (1, 2, 3)]

    text = Balanced(page := report_page(run([0.5, 0.2], [0.5, 0.3], evaluation=EXAMPLE, layers=layers))).text

    for words in ("Loss", "Error", "Learning rate", "Confusion matrix", "a&b", "is a&b", "conv.weight", "1.25 ms"):
        assert words in text
    assert "Norm of gradients by weights" in text and "Standard deviation" not in text
    assert "A<b>" in text and "<b>A" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing is fetched


def test_a_report_of_a_run_without_validation_or_evaluation_leaves_them_out() -> None:
    text = Balanced(report_page(run([0.5, 0.2]))).text

    assert "validation" not in text and "Confusion" not in text


def test_a_report_of_a_run_without_an_epoch_says_so() -> None:
    assert "No epoch was finished." in Balanced(report_page(run([]))).text


@pytest.mark.parametrize(
    ("train", "validation", "says"),
    [
        ([0.5, 0.1, 0.01, 0.01, 0.01], [0.5, 0.3, 0.2, 0.2, 0.2], "overfits"),
        ([0.5, 0.4, 0.35, 0.35, 0.35], [0.5, 0.4, 0.36, 0.36, 0.36], "underfits"),
        ([0.5, 0.02, 0.01, 0.01, 0.01], [0.5, 0.02, 0.012, 0.012, 0.012], "fits well"),
        ([0.5, 0.04, 0.03, 0.03, 0.03], [0.5, 0.02, 0.012, 0.012, 0.012], "Validation is better than training"),
    ],
)
def test_the_gap_between_training_and_validation_is_named(
    train: list[float], validation: list[float], says: str
) -> None:
    assert says in " ".join(findings(run(train, validation)))


def test_a_network_that_guesses_did_not_learn() -> None:
    source = run([0.9, 0.9, 0.9])
    source = Run(source.folder, source.name, {**source.recipe, "classes": list("0123456789")}, source.history)

    assert "It did not learn" in findings(source)[0]


def test_early_stopping_is_placed_where_it_would_have_cut() -> None:
    values = [5.0, 4.0, 3.0, 3.5, 3.6, 3.7, 3.8, 3.9, 4.0, 4.1]

    assert cut_epoch(values, patience=5) == 7
    assert cut_epoch(values[:5], patience=5) is None
    sentence = findings(run(values, values))[-1]
    assert "would have ended the run after epoch 8 and kept epoch 3" in sentence


@pytest.mark.parametrize("values", [[0.0, 1.0], [3.0, 3.0], [-2e-5, 7e-5], [0.0], [], [1e9, 3e9], [float("nan"), 2.0]])
def test_a_linear_scale_holds_its_values_and_has_a_few_round_ticks(values: list[float]) -> None:
    scale = linear(values)

    finite = [v for v in values if v == v]
    assert all(scale.low <= v <= scale.high for v in finite)
    assert 2 <= len(scale.ticks) <= 12 and list(scale.ticks) == sorted(set(scale.ticks))


@pytest.mark.parametrize("values", [[1e-5, 1.0], [0.3, 0.4], [2.0], [5.0, 5.0], [], [0.0, 1.0]])
def test_a_logarithmic_scale_holds_its_positive_values(values: list[float]) -> None:
    scale = logarithmic(values)

    assert all(scale.low <= v <= scale.high for v in values if v > 0)
    assert len(scale.ticks) >= 2 and scale.low < scale.high


def test_numbers_are_written_briefly() -> None:
    assert [number(v) for v in (0, 0.25, 12000, 1.2345e-5, 3e9)] == ["0", "0.25", "12,000", "1.23e-05", "3e+09"]
    assert number(0.0251, percent=True) == "2.51 %"


def test_a_gap_in_a_curve_stays_a_gap() -> None:
    chart = line_chart("t", [Line("l", ((1, 1.0), (2, float("nan")), (3, 2.0), (4, 3.0)))], Axis("x"), Axis("y"))

    assert chart.count("<circle") == 1 and chart.count('fill="none" stroke=') == 1 and "nan" not in chart


def test_a_thinned_line_keeps_its_peaks() -> None:
    points = [(float(i), 100.0 if i == 777 else float(i % 7)) for i in range(10_000)]

    kept = thinned(points)

    assert (777.0, 100.0) in kept and len(kept) <= 1250 and kept == sorted(kept)


def test_a_comparison_lays_runs_over_each_other_and_says_what_differs(tmp_path: Path) -> None:
    one = written(tmp_path / "a" / "run", run([0.5, 0.2], [0.5, 0.3], evaluation=EXAMPLE))
    two = written(tmp_path / "b" / "run", run([0.6, 0.1]))
    (two / "recipe.json").write_text(json.dumps({"train": {"batch": "128"}, "data": {"source": "mnist-mini"}}))

    text = Balanced(write_comparison([one, two], tmp_path / "page.html").read_text()).text

    assert "a/run" in text and "b/run" in text and "train.batch" in text and "data.source" not in text


def test_runs_that_are_the_same_are_told_apart() -> None:
    assert "one (2)" in compare_page([run([0.5]), run([0.5])])


def test_one_run_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault, match="two runs"):
        write_comparison([tmp_path], tmp_path / "page.html")


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault) as missing:
        read_run(tmp_path / "nothing")
    with pytest.raises(RuntimeFault) as empty:
        read_run(tmp_path)

    assert missing.value.code == empty.value.code == "R0601"


@pytest.mark.parametrize("name", ["recipe.json", "metrics.jsonl", EVALUATION])
@pytest.mark.parametrize("content", ["{", "[1]", '{"epoch": 1}\nnonsense\n', '{"a": 1}\n{"b": 2}\n'])
def test_damaged_files_are_named(tmp_path: Path, name: str, content: str) -> None:
    folder = written(tmp_path / "run", run([0.5], evaluation=EXAMPLE))
    (folder / name).write_text(content)

    with pytest.raises(RuntimeFault) as fault:
        write_report(folder)

    assert fault.value.code == "R0602" and name in fault.value.message
    assert not (folder / "report.html").exists()


def test_one_score_speaks_for_the_second_class() -> None:
    shares = probabilities(np.array([[0.0], [3.0]]))

    assert shares.shape == (2, 2) and shares[0, 1] == pytest.approx(0.5) and shares[1].argmax() == 1


def test_filters_are_those_of_the_first_layer_with_a_window() -> None:
    weights = {"a.weight": np.zeros((8, 3, 1, 1)), "b.weight": np.ones((4, 8, 3, 3)), "c.weight": np.ones((2, 4, 5, 5))}

    name, pictures = first_filters(weights)

    assert name == "b.weight" and len(pictures) == 4 and all(p.startswith("data:image/png") for p in pictures)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_a_browser_runs_the_page_and_nothing_sticks_out(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", run([0.5, 0.2, 0.1], [0.5, 0.3, 0.2], evaluation=EXAMPLE))
    page = write_report(folder)
    probe = "<script>document.title = document.querySelectorAll('.tip').length + ' ' + document.documentElement.scrollWidth</script>"
    page.write_text(page.read_text().replace("</body>", probe + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]

    done = subprocess.run(
        [
            "chromium",
            *flags,
            "--window-size=800,600",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )

    found = re.search(r"<title>(\d+) (\d+)</title>", done.stdout)
    assert found, done.stderr
    assert int(found[1]) == 3 and int(found[2]) <= 800


def test_a_range_test_shows_loss_over_rate_and_cuts_off_what_blew_up() -> None:
    points = [(10.0**k, loss, loss) for k, loss in ((-3, 2.0), (-2, 1.0), (-1, 0.5), (0, 1.5), (1, 1e9))]

    page = rate_page("LeNet5", points, 0.05, 0.01)

    text = Balanced(page).text
    assert "0.05" in text and "falls fastest" in text and "1e+09" not in page
    assert "never fell" in Balanced(rate_page("LeNet5", points, None, None)).text
