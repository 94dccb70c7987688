"""A run that is killed at random moments and resumed each time ends with the bits of one that never was."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("linear_run.py")
SPEC = Path(__file__).parents[3] / "specs" / "lenet5.dlspec"
TIMES = ("seconds", "images_per_second")


def start(out, *options):
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(out), *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process):
    process.communicate()
    return process.returncode


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path, seed):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert finish(start(whole)) == 0

    chance = random.Random(seed)
    kills = 0
    options = ["--pause", "0.01"]
    for _ in range(5):
        process = start(killed, *options, *(["--resume"] if kills else []))
        time.sleep(chance.uniform(0.005, 0.25))
        process.kill()
        kills += finish(process) != 0
    assert finish(start(killed, "--resume")) == 0

    assert kills >= 2
    assert_same_run(whole, killed)


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_compiled_run_killed_ten_times_ends_with_the_same_bits(tmp_path, threads):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [
        sys.executable,
        "-m",
        "dlc",
        "train",
        str(SPEC),
        "--threads",
        threads,
        "--set",
        "train.epochs=8",
        "--out",
    ]
    subprocess.run([*command, str(whole)], check=True, capture_output=True)

    chance = random.Random(int(threads))
    for number in range(10):
        process = subprocess.Popen(
            [*command, str(killed), *(["--resume"] if number else [])],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_change(killed / "metrics.jsonl", process)
        time.sleep(chance.uniform(0, 0.4))
        process.kill()
        process.wait()
    subprocess.run([*command, str(killed), "--resume"], check=True, capture_output=True)

    assert_same_run(whole, killed)


def wait_for_change(path, process):
    """Until the file is written: a run does that when it begins and when it goes on."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    while process.poll() is None and (path.stat().st_mtime_ns if path.exists() else 0) == before:
        time.sleep(0.005)


def assert_same_run(whole, other):
    for name in ("last.safetensors", "best.safetensors"):
        assert (whole / name).read_bytes() == (other / name).read_bytes()
    records = [
        [
            {k: v for k, v in json.loads(line).items() if k not in TIMES}
            for line in (out / "metrics.jsonl").read_text().splitlines()
        ]
        for out in (whole, other)
    ]
    assert records[0] == records[1]
