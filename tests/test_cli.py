"""The command line: results, JSON, exit statuses, and what bad input gets instead of a traceback."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from dlc import DlcError, RuntimeFault, api
from dlc.cli import main

SPECS = Path(__file__).parent.parent / "specs"
LENET = str(SPECS / "lenet5.dlspec")


class Done:
    """What a command did."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out.splitlines()[-1])


Dlc = Callable[..., Done]


@pytest.fixture
def dlc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Dlc:
    def call(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["dlc", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Done(status, captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet-5 after one epoch on mnist-mini."""
    out = tmp_path_factory.mktemp("run")
    command = [sys.executable, "-m", "dlc", "train", LENET, "--out", str(out), "--set", "train.epochs=1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert set(result) == {"test_error", "epochs", "seconds", "artifact", "out"}
    assert 0 <= result["test_error"] < 0.5 and result["epochs"] == 1
    return Path(result["artifact"])


def test_check_says_that_a_shipped_spec_has_no_mistakes(dlc: Dlc) -> None:
    done = dlc("check", LENET, "--json")

    assert done.status == 0
    assert done.json == {"diagnostics": []}


def test_check_loads_nothing_that_computes() -> None:
    program = "import sys; from dlc import api; api.check(sys.argv[1]); "
    program += "print([m for m in ('numpy', 'tvm', 'tvm_ffi', 'PIL', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program, LENET], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_check_reports_every_mistake_with_its_place(dlc: Dlc, tmp_path: Path) -> None:
    spec = tmp_path / "wrong.dlspec"
    spec.write_text("model M {\n    input x: [1, 8, 8]\n    x -> cnv(3, 3) -> relu -> lnear(2) -> output y\n}\n")

    done = dlc("check", spec, "--json")

    assert done.status == 1
    found = done.json["diagnostics"]
    assert [set(d) for d in found] == [{"code", "severity", "message", "file", "line", "column", "help"}] * 2
    assert [(d["line"], d["column"]) for d in found] == [(3, 10), (3, 31)]
    assert "conv" in found[0]["help"] and "linear" in found[1]["help"]


def test_show_prints_counts(dlc: Dlc) -> None:
    done = dlc("show", SPECS / "resnet.dlspec", "--model", "ResNet18", "--json")

    assert done.status == 0
    (model,) = done.json["models"]
    assert (model["name"], model["params"], model["macs"]) == ("ResNet18", 11_689_512, 1_814_073_344)
    assert sum(layer["params"] for layer in model["layers"]) == model["params"]


@pytest.mark.parametrize("stage", ["parse", "check", "build", "fold", "pack", "fuse", "lower"])
def test_show_stops_after_every_stage(dlc: Dlc, stage: str) -> None:
    done = dlc("show", LENET, "--after", stage)

    assert done.status == 0, done.err
    assert {"parse": "Model", "lower": "T.prim_func"}.get(stage, "c1") in done.out


def test_fmt_check_changes_nothing_and_fmt_does(dlc: Dlc, tmp_path: Path) -> None:
    spec = tmp_path / "loose.dlspec"
    loose = "model M {  # a comment\n  input x:[1,8,8]\n  x->conv( 3,3 )->output y\n}\n"
    spec.write_text(loose)

    assert dlc("fmt", "--check", spec).status == 1
    assert spec.read_text() == loose
    assert dlc("fmt", spec).status == 0
    assert dlc("fmt", "--check", spec).status == 0
    assert "# a comment" in spec.read_text()


def test_fmt_goes_on_behind_a_file_with_a_mistake(dlc: Dlc, tmp_path: Path) -> None:
    first, broken, last = (tmp_path / name for name in ("first.dlspec", "broken.dlspec", "last.dlspec"))
    for spec in (first, last):
        spec.write_text("model M {\n  input x:[1,8,8]\n  x->relu->output y\n}\n")
    broken.write_text("model M {")

    done = dlc("fmt", first, broken, last)

    assert done.status == 1
    assert done.out.splitlines() == [f"formatted {first}", f"formatted {last}"]
    assert "E0104" in done.err


def test_compile_takes_trained_weights_and_bench_measures(dlc: Dlc, artifact: Path, tmp_path: Path) -> None:
    compiled = tmp_path / "lenet5.dlc"
    done = dlc("compile", LENET, "--weights", artifact.with_name("best.safetensors"), "-o", compiled, "--json")
    assert done.status == 0 and done.json["artifact"] == str(compiled)

    bench = dlc("bench", compiled, "--seconds", "0.1", "--layers", "--json")

    assert bench.status == 0
    assert bench.json["median_ms"] > 0 and bench.json["images_per_second"] > 0
    assert {"c1", "c3", "c5"} <= {row["layer"] for row in bench.json["layers"]}


def test_eval_gives_the_error_of_the_training_run(dlc: Dlc, artifact: Path) -> None:
    done = dlc("eval", artifact, "--json")

    assert done.status == 0
    assert done.json["images"] == 1000
    assert done.json["source"] == "mnist-mini"
    assert 0 <= done.json["test_error"] < 0.5


def test_run_names_the_classes_of_an_image_and_of_arrays(dlc: Dlc, artifact: Path, tmp_path: Path) -> None:
    digit = np.zeros((28, 28), np.uint8)
    digit[4:24, 13:16] = 255  # a one
    Image.fromarray(digit).save(tmp_path / "one.png")
    np.save(tmp_path / "one.npy", digit)
    np.savez(tmp_path / "ones.npz", images=np.stack([digit, digit]))

    results = [dlc("run", artifact, tmp_path / name, "--json") for name in ("one.png", "one.npy", "ones.npz")]

    samples = [sample for done in results for sample in done.json["samples"]]
    assert len(samples) == 4
    assert all(sample == samples[0] for sample in samples)
    assert {entry["name"] for entry in samples[0]} <= set("0123456789")
    assert sum(entry["probability"] for entry in samples[0]) <= 1 + 1e-6


def _classifier(dlc: Dlc, folder: Path, end: str) -> Path:
    (folder / "m.dlspec").write_text(f"model M {{\n    input x: [4]\n    x -> {end} -> output y\n}}\n")
    assert dlc("compile", folder / "m.dlspec", "-o", folder / "m.dlc").status == 0
    np.save(folder / "x.npy", np.ones((2, 4), np.float32))
    return folder / "m.dlc"


def test_run_takes_the_probabilities_of_a_network_that_ends_with_softmax(dlc: Dlc, tmp_path: Path) -> None:
    compiled = _classifier(dlc, tmp_path, "scale(5.0) -> slice(0, 1) -> linear(3) -> scale(20.0) -> softmax")

    done = dlc("run", compiled, tmp_path / "x.npy", "--json")

    assert all(entry["probability"] == entry["score"] for sample in done.json["samples"] for entry in sample)


def test_run_finds_no_classes_in_one_number(dlc: Dlc, tmp_path: Path) -> None:
    compiled = _classifier(dlc, tmp_path, "linear(1)")

    done = dlc("run", compiled, tmp_path / "x.npy")

    assert done.status == 1 and "R0214" in done.err


def test_bench_says_what_it_cannot_do(dlc: Dlc, tmp_path: Path) -> None:
    compiled = _classifier(dlc, tmp_path, "linear(3)")

    named = dlc("bench", compiled, "--model", "M")
    large = dlc("bench", compiled, "--batch", "10000000000000")

    assert named.status == 1 and "R0217" in named.err
    assert large.status == 1 and "memory" in large.err


def test_targets_agree_with_compile_about_linkers(dlc: Dlc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "ziglang", None)

    found = {entry["name"]: entry for entry in dlc("targets", "--json").json["targets"]}

    assert not found["cpu"]["compiles"] and not found["aarch64"]["compiles"]
    assert "linker" in found["aarch64"]["reason"]


@pytest.mark.parametrize(
    ("options", "code"),
    [({"batch": 0}, "E0857"), ({"batch": 2.5}, "E0857"), ({"weights": 3}, "E0858"), ({"weights": {"x": "y"}}, "R0403")],
)
def test_compile_from_python_refuses_what_makes_no_sense(options: dict[str, Any], code: str) -> None:
    with pytest.raises((DlcError, RuntimeFault), match=code):
        api.compile(LENET, **options)


def test_targets_lists_the_processor(dlc: Dlc) -> None:
    found = {entry["name"]: entry for entry in dlc("targets", "--json").json["targets"]}

    assert found["cpu"]["runs"] and found["cpu"]["compiles"]
    assert not found["cuda"]["runs"] or not found["cuda"]["reason"]


def test_a_run_in_bfloat16_says_so_in_what_it_leaves(dlc: Dlc, tmp_path: Path) -> None:
    spec = tmp_path / "small.dlspec"
    spec.write_text(
        "model M {\n    input x: [1, 28, 28]\n    x -> conv(8, 5, stride=4) -> relu -> flatten -> linear(10) -> output y\n}\n"
        "data digits {\n    source mnist-mini\n}\n"
        "train T {\n    model M\n    data digits\n    loss cross_entropy\n    optimizer sgd(lr=0.1)\n    batch 60\n    steps 100\n}\n"
    )

    done = dlc("train", spec, "--precision", "bf16", "--out", tmp_path / "run", "--json")

    assert done.status == 0, done.err
    assert done.json["test_error"] < 0.5
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["train"]["precision"] == "bf16"


WRONG_USAGE = {
    "no command": ["frobnicate"],
    "no such option": ["check", LENET, "--colour"],
    "missing argument": ["compile"],
    "batch of nothing": ["bench", LENET, "--batch", "0"],
    "threads in words": ["bench", LENET, "--threads", "two"],
    "no precision of a step": ["train", LENET, "--precision", "fp16"],
    "a recipe, but no training": ["bench", LENET, "--recipe", "LeNet5OnMini"],
    "training with a batch of its own": ["bench", LENET, "--train", "--batch", "2"],
}


@pytest.mark.parametrize("arguments", WRONG_USAGE.values(), ids=WRONG_USAGE.keys())
def test_wrong_usage_exits_with_2(dlc: Dlc, arguments: list[str]) -> None:
    done = dlc(*arguments)

    assert done.status == 2
    assert done.err


BAD_INPUT = {
    "missing spec": ["check", "nowhere.dlspec"],
    "a folder as spec": ["check", str(SPECS)],
    "spec that is no text": ["check", "noise"],
    "truncated spec": ["check", "half.dlspec"],
    "unknown model": ["compile", LENET, "--model", "LeNet6"],
    "unknown target": ["compile", LENET, "--target", "cpuu"],
    "unknown stage": ["show", LENET, "--after", "lowering"],
    "unknown recipe": ["train", LENET, "--recipe", "Nothing"],
    "unknown setting": ["train", LENET, "--set", "train.bach=3"],
    "setting without a value": ["train", LENET, "--set", "train.batch"],
    "setting of a wrong type": ["train", LENET, "--set", "train.batch=red"],
    "spec without a recipe": ["train", "plain.dlspec"],
    "data that are not there": ["train", LENET, "--set", "data.source=mnist", "--data", "nowhere"],
    "missing weights": ["compile", LENET, "--weights", "nowhere.safetensors"],
    "weights that are noise": ["compile", LENET, "--weights", "noise"],
    "weights of another network": ["compile", LENET, "--weights", "other.safetensors"],
    "weights of another shape": ["compile", LENET, "--weights", "misshapen.safetensors"],
    "output in no folder": ["compile", LENET, "-o", "no/such/folder/x.dlc"],
    "missing artifact": ["run", "nowhere.dlc", "one.npy"],
    "artifact that is noise": ["run", "noise", "one.npy"],
    "artifact that is cut off": ["run", "half.dlc", "one.npy"],
    "artifact that is damaged": ["bench", "damaged.dlc"],
    "missing image": ["run", "whole.dlc", "nowhere.png"],
    "image that is noise": ["run", "whole.dlc", "noise.png"],
    "array of a wrong shape": ["run", "whole.dlc", "square.npy"],
    "array of a wrong type": ["run", "whole.dlc", "text.npy"],
    "array that is cut off": ["run", "whole.dlc", "half.npy"],
    "archive of other arrays": ["run", "whole.dlc", "several.npz"],
    "unknown source": ["eval", "whole.dlc", "--source", "mnst"],
    "resume of nothing else": ["train", LENET, "--resume", "--out", "noise"],
}


@pytest.fixture(scope="module")
def workshop(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of broken files."""
    folder = tmp_path_factory.mktemp("workshop")
    noise = np.random.default_rng(0).bytes(4096)
    for name in ("noise", "noise.png"):
        (folder / name).write_bytes(noise)
    text = Path(LENET).read_text()
    (folder / "half.dlspec").write_text(text[: text.index("flatten") + 3])
    (folder / "plain.dlspec").write_text("model M {\n    input x: [1, 8, 8]\n    x -> conv(3, 3) -> output y\n}\n")
    content = artifact.read_bytes()
    (folder / "whole.dlc").write_bytes(content)
    (folder / "half.dlc").write_bytes(content[: len(content) // 2])
    middle = len(content) // 2
    (folder / "damaged.dlc").write_bytes(content[:middle] + b"\0\1\2\3\4\5\6\7" + content[middle + 8 :])
    weights = load_file(artifact.with_name("best.safetensors"))
    save_file({"elsewhere.weight": np.zeros(3, np.float32)}, folder / "other.safetensors")
    save_file({**weights, "c1.weight": np.zeros((6, 1, 3, 3), np.float32)}, folder / "misshapen.safetensors")
    np.save(folder / "one.npy", np.zeros((1, 1, 32, 32), np.float32))
    np.save(folder / "square.npy", np.zeros((1, 1, 31, 31), np.float32))
    np.save(folder / "text.npy", np.array(["a", "b"]))
    (folder / "half.npy").write_bytes((folder / "one.npy").read_bytes()[:1000])
    np.savez(folder / "several.npz", a=np.zeros(3), b=np.zeros(4))
    return folder


@pytest.mark.parametrize("arguments", BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_gets_a_message_and_exit_1(
    dlc: Dlc, workshop: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(workshop)

    done = dlc(*arguments)

    assert done.status == 1
    assert done.err.startswith("error")
    assert len(done.err.strip()) > 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_disk_is_an_error_and_not_a_traceback(artifact: Path) -> None:
    command = f"{sys.executable} -m dlc show {LENET} --json > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "space" in done.stderr


def test_training_that_ctrl_c_stops_says_how_to_go_on_and_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dlc", "train", LENET, "--out", str(tmp_path / "run"), "--set", "train.epochs=40"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        log = tmp_path / "run" / "metrics.jsonl"
        while running.poll() is None and not (log.exists() and log.read_text()):
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=120)

    assert running.returncode == 130, errors
    assert "Traceback" not in errors
    assert "--resume" in errors
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["data"]["source"]


def test_weights_that_fit_in_part_are_taken_where_one_says_so(dlc: Dlc, tmp_path: Path) -> None:
    weights, output = tmp_path / "weights.safetensors", tmp_path / "model.dlc"
    found = api.fresh_weights(api.one_network(LENET), seed=5)
    found["out.weight"] = found["out.weight"][:7]
    found["f6.wieght"] = found.pop("f6.weight")
    save_file(found, weights)
    command = ["compile", LENET, "--weights", weights, "-o", output]

    strict, partial = dlc(*command), dlc(*command, "--partial", "--json")

    assert strict.status == 1 and "1 missing, 1 unknown, 1 misshapen" in strict.err
    assert partial.status == 0 and partial.json["differences"] == [
        "missing: f6.weight (the file has f6.wieght)",
        "unknown: f6.wieght",
        "misshapen: out.weight must be [10, 84], the file has [7, 84]",
    ]
    assert all(line in partial.err for line in partial.json["differences"])
    assert output.exists()
    assert dlc("compile", LENET, "--partial").status == 2
    save_file({"other": found["c1.bias"]}, weights)
    assert "no weight of" in dlc(*command, "--partial").err


def test_a_mistyped_command_names_the_nearest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["dlc", "chek"])

    with pytest.raises(SystemExit) as stop:
        main()

    assert stop.value.code == 2
    assert "Did you mean 'check'?" in capsys.readouterr().err
