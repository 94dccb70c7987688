"""What augmentation costs a training run: LeNet-5 on MNIST, batch 128, with it and without, in turns.

    python benchmarks/augmentation.py --data FOLDER

Each turn trains two epochs by `augmentation.dlspec` in this process; the second counts. A figure is the median over the rounds of the
time of an epoch with augmentation over that of the epochs without, before and behind it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import dlc

SPEC = Path(__file__).with_suffix(".dlspec")
RECIPES = ("Moved", "Elastic")


def seconds_of_an_epoch(recipe: str, data: Path, folder: Path) -> float:
    """Trains two epochs of a recipe and tells how long the second one took, without evaluation."""
    dlc.train(SPEC, recipe=recipe, data=data, out=folder, settings=["train.epochs=2"])
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return float(last["step"]) / 2 * 128 / float(last["images_per_second"])


def main() -> None:
    """Prints what each augmentation costs, round by round and in the middle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of MNIST's four files")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    costs: dict[str, list[float]] = {recipe: [] for recipe in RECIPES}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        before = seconds_of_an_epoch("Plain", options.data, out)
        for _ in range(options.rounds):
            for recipe in RECIPES:
                augmented = seconds_of_an_epoch(recipe, options.data, out)
                behind = seconds_of_an_epoch("Plain", options.data, out)
                costs[recipe].append(2 * augmented / (before + behind) - 1)
                print(f"{recipe:<8} {augmented:6.2f} s, plain {before:.2f} and {behind:.2f} s", flush=True)
                before = behind
    for recipe, found in costs.items():
        print(f"{recipe:<8} costs {statistics.median(found):.1%} (least {min(found):.1%}, most {max(found):.1%})")


if __name__ == "__main__":
    main()
