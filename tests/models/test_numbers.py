"""The counts of the papers: `dlc show --json` gives every one of them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import dlc
from dlc.cli import program

SPECS = Path(dlc.__file__).parent / "specs"

PARAMETERS = [
    ("lenet5_1998", "LeNet5", 60_000),
    ("lenet5", "LeNet5", 61_706),
    ("alexnet", "AlexNetOf2012", 60_965_224),
    ("alexnet", "AlexNet", 61_100_840),
    ("vgg", "VggA", 132_863_336),
    ("vgg", "VggALRN", 132_863_336),
    ("vgg", "VggB", 133_047_848),
    ("vgg", "VggC", 133_638_952),
    ("vgg", "VggD", 138_357_544),
    ("vgg", "VggE", 143_667_240),
    ("vgg_2014", "VggA", 132_863_336),
    ("vgg_2014", "VggB", 133_047_848),
    ("vgg_2014", "VggC", 133_638_952),
    ("vgg_2014", "VggD", 138_357_544),
    ("vgg_2014", "VggE", 143_667_240),
    ("vgg", "VggABN", 132_868_840),
    ("vgg", "VggBBN", 133_053_736),
    ("vgg", "VggDBN", 138_365_992),
    ("vgg", "VggEBN", 143_678_248),
    ("googlenet", "GoogLeNetOf2014", 6_998_552),
    ("googlenet", "GoogLeNet", 6_624_904),
    ("resnet18", "ResNet18", 11_689_512),
    ("resnet", "ResNet18", 11_689_512),
    ("resnet", "ResNet34", 21_797_672),
    ("resnet", "ResNet18A", 11_515_688),
    ("resnet", "ResNet34A", 21_623_848),
    ("resnet", "Plain18", 11_515_688),
    ("resnet", "Plain34", 21_623_848),
    ("resnet", "ResNet50", 25_557_032),
    ("resnet", "ResNet101", 44_549_160),
    ("resnet", "ResNet152", 60_192_808),
    ("resnet", "ResNet50Of2015", 25_557_032),
    ("resnet", "ResNet101Of2015", 44_549_160),
    ("resnet", "ResNet152Of2015", 60_192_808),
    ("resnet_cifar", "ResNet20", 269_722),
    ("resnet_cifar", "ResNet32", 464_154),
    ("resnet_cifar", "ResNet44", 658_586),
    ("resnet_cifar", "ResNet56", 853_018),
    ("resnet_cifar", "ResNet110", 1_727_962),
    ("resnet_cifar", "Plain20", 269_722),
    ("resnet_cifar", "Plain56", 853_018),
]
MACS = [  # an integer exactly, otherwise in billions, to the digits that are given
    ("lenet5", "LeNet5", 416_520),
    ("alexnet", "AlexNetOf2012", 724_406_816),
    ("alexnet", "AlexNet", 714_188_480),
    ("vgg", "VggA", "7.609"),
    ("vgg", "VggALRN", "7.609"),
    ("vgg", "VggB", "11.308"),
    ("vgg", "VggC", "11.771"),
    ("vgg", "VggD", "15.470"),
    ("vgg", "VggE", "19.632"),
    ("vgg_2014", "VggA", "7.609"),
    ("vgg_2014", "VggB", "11.308"),
    ("vgg_2014", "VggC", "11.771"),
    ("vgg_2014", "VggD", "15.470"),
    ("vgg_2014", "VggE", "19.632"),
    ("vgg", "VggABN", "7.609"),
    ("vgg", "VggBBN", "11.308"),
    ("vgg", "VggDBN", "15.470"),
    ("vgg", "VggEBN", "19.632"),
    ("googlenet", "GoogLeNetOf2014", "1.583"),
    ("googlenet", "GoogLeNet", "1.498"),
    ("resnet", "ResNet18", "1.814"),
    ("resnet", "ResNet34", "3.664"),
    ("resnet", "ResNet18A", "1.795"),
    ("resnet", "ResNet34A", "3.644"),
    ("resnet", "Plain18", "1.795"),
    ("resnet", "Plain34", "3.644"),
    ("resnet", "ResNet50", "4.089"),
    ("resnet", "ResNet101", "7.801"),
    ("resnet", "ResNet152", "11.514"),
    ("resnet", "ResNet50Of2015", "3.858"),
    ("resnet", "ResNet101Of2015", "7.570"),
    ("resnet", "ResNet152Of2015", "11.282"),
    ("resnet_cifar", "ResNet20", "0.04055"),
    ("resnet_cifar", "ResNet32", "0.06886"),
    ("resnet_cifar", "ResNet44", "0.09717"),
    ("resnet_cifar", "ResNet56", "0.12549"),
    ("resnet_cifar", "ResNet110", "0.25289"),
]


@cache
def shown(file: str) -> dict[str, Any]:
    result = CliRunner().invoke(program, ["show", str(SPECS / f"{file}.dlspec"), "--json"])
    assert result.exit_code == 0, result.output
    return {model["name"]: model for model in json.loads(result.output.splitlines()[-1])["models"]}


@pytest.mark.parametrize(("file", "model", "count"), PARAMETERS)
def test_the_parameters_are_those_of_the_paper(file: str, model: str, count: int) -> None:
    assert shown(file)[model]["params"] == count


@pytest.mark.parametrize(("file", "model", "count"), MACS)
def test_the_multiply_adds_are_those_of_the_paper(file: str, model: str, count: int | str) -> None:
    macs = shown(file)[model]["macs"]

    assert (macs if isinstance(count, int) else f"{macs / 1e9:.{len(count.partition('.')[2])}f}") == count


@pytest.mark.parametrize(
    ("model", "parameters", "macs"), [("GoogLeNetOf2014", 13_378_280, "1.591"), ("GoogLeNet", 13_004_888, "1.507")]
)
def test_googlenets_heads_are_counted_in_training(model: str, parameters: int, macs: str) -> None:
    facts = shown("googlenet")[model]

    assert facts["params_training"] == parameters
    assert f"{facts['macs_training'] / 1e9:.3f}" == macs


def test_the_layers_of_lenet5_have_the_paper_s_parameters_and_connections() -> None:
    layers = [row for row in shown("lenet5_1998")["LeNet5"]["layers"] if row["params"]]

    # a connection is a multiply-add or a bias; a unit of subsampling has four inputs and a bias
    windows = {"subsample": 5}
    connections = [
        (row["macs"] or windows.get(row["op"], 0) * _size(row["output_shape"]))
        + (_size(row["output_shape"]) if row["macs"] else 0)
        for row in layers
    ]
    assert [row["params"] for row in layers] == [156, 12, 1_516, 32, 48_120, 10_164]
    assert sum(connections) + 10 * 84 == 340_908  # each output unit sees all of F6


@pytest.mark.parametrize(("file", "most"), [("resnet", 60), ("googlenet", 70), ("vgg", 40)])
def test_a_family_is_a_page(file: str, most: int) -> None:
    assert len((SPECS / f"{file}.dlspec").read_text(encoding="utf-8").splitlines()) <= most


def _size(shape: list[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
