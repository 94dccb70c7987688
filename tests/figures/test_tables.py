"""Tables of networks: those of the five papers, and the rules that make them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

import dlc
from dlc import api, report
from dlc.cli import main
from dlc.compiler.network import Network
from dlc.figures.family import families, family_tables
from dlc.figures.table import Table, bracketed, connections, rows, table, weighted_depth

SPECS = Path(dlc.__file__).parent / "specs"
NETWORKS = Path(__file__).parent.parent / "networks"
PAPERS = [
    ("lenet5_1998", ["LeNet5"]),
    ("alexnet", ["AlexNetOf2012"]),
    ("vgg", ["VggA", "VggALRN", "VggB", "VggC", "VggD", "VggE"]),
    ("googlenet", ["GoogLeNetOf2014"]),
    ("resnet", ["ResNet18", "ResNet34", "ResNet50Of2015", "ResNet101Of2015", "ResNet152Of2015"]),
    ("resnet_cifar", ["ResNet20", "ResNet32", "ResNet44", "ResNet56", "ResNet110"]),
]


@cache
def models(path: Path) -> dict[str, Network]:
    return {network.name: network for network in api.networks(path)}


def shipped(file: str, model: str) -> Network:
    return models(SPECS / f"{file}.dlspec")[model]


def text(figure: Table) -> str:
    out = io.StringIO()
    report.print_table(figure, Console(file=out, width=160))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


@pytest.mark.parametrize(("file", "names"), PAPERS, ids=[file for file, _ in PAPERS])
def test_the_table_is_that_of_the_paper(file: str, names: list[str], golden: Callable[[str, str], None]) -> None:
    networks = [shipped(file, name) for name in names]
    assert families(networks) == [networks]

    figures = [table(networks[0])] if len(networks) == 1 else family_tables(networks, 160)
    golden("\n".join(map(text, figures)), f"tables/{file}.txt")


@pytest.mark.parametrize(
    ("label", "parameters", "joined"),
    [("c1", 156, 122_304), ("s2", 12, 5_880), ("c3", 1_516, 151_600), ("s4", 32, 2_000), ("c5", 48_120, 48_120)],
)
def test_lenet5_has_the_connections_that_its_paper_counts(label: str, parameters: int, joined: int) -> None:
    """LeCun et al. 1998, section II.B."""
    (row,) = [r for r in rows(shipped("lenet5_1998", "LeNet5")) if r.label == label]

    assert (row.parameters, row.connections) == (parameters, joined)


def test_all_connections_of_lenet5_are_340_908() -> None:
    """The same section, the 840 of the output's prototypes included."""
    assert sum(connections(call) for call in shipped("lenet5_1998", "LeNet5").calls) == 340_908


@pytest.mark.parametrize(
    ("file", "model", "layers"),
    [("vgg", "VggA", 11), ("vgg", "VggC", 16), ("vgg", "VggE", 19), ("googlenet", "GoogLeNetOf2014", 22),
     ("resnet", "ResNet34A", 34), ("resnet", "ResNet152", 152), ("resnet_cifar", "ResNet110", 110), ("alexnet", "AlexNet", 8)],
)  # fmt: skip
def test_weight_layers_are_as_many_as_the_name_says(file: str, model: str, layers: int) -> None:
    assert weighted_depth(shipped(file, model).inference_calls()) == layers


def test_googlenet_s_widths_are_those_of_table_1() -> None:
    widths = [
        (r.label, [int(n) for _, n in r.widths]) for r in rows(shipped("googlenet", "GoogLeNetOf2014")) if r.widths
    ]

    assert widths[0] == ("inception3a", [64, 96, 128, 16, 32, 32])
    assert widths[-1] == ("inception5b", [384, 192, 384, 48, 128, 128])
    assert len(widths) == 9


@pytest.mark.parametrize(
    "path", [*sorted(SPECS.glob("*.dlspec")), *sorted(NETWORKS.glob("*.dlspec"))], ids=lambda p: p.stem
)
def test_a_table_s_sums_are_those_of_the_network(path: Path) -> None:
    for network in models(path).values():
        facts = report.network(network)
        found = rows(network)

        kept = [row for row in found if not row.training_only]
        assert sum(r.parameters for r in kept) == facts["params"]
        assert sum(r.macs for r in kept) == facts["macs"]
        assert sum(r.parameters for r in found) == facts["params_training"]
        for figure in (table(network), *family_tables([network, network], 100)):
            assert all(len(row) == len(figure.headings) for section in figure.sections for row in section)
            assert text(figure).count("…") == 0


def test_models_of_other_sizes_have_tables_of_their_own() -> None:
    found = families(list(models(SPECS / "alexnet.dlspec").values()))

    assert [[n.name for n in family] for family in found] == [["AlexNet"], ["AlexNetOf2012"]]


def test_a_family_that_is_too_wide_is_told_in_several_tables() -> None:
    networks = list(models(SPECS / "resnet.dlspec").values())
    figures = list(family_tables(networks, 100))

    assert len(figures) > 1 and all(figure.width <= 100 for figure in figures)
    shown = [heading for figure in figures for heading, _ in figure.headings[2:]]
    assert shown == [network.name for network in networks]


def test_norms_are_named_where_the_models_differ_in_them() -> None:
    plain, normed = shipped("vgg", "VggA"), shipped("vgg", "VggABN")

    (one,) = family_tables([plain, normed], 160)
    assert "3×3, 64 + BN" in text(one)
    (same,) = family_tables([normed, shipped("vgg", "VggBBN")], 160)
    assert "BN" not in text(same).replace("VggABN", "").replace("VggBBN", "")


def test_equal_blocks_side_by_side_are_not_told_as_blocks_in_a_row() -> None:
    (network,) = models(NETWORKS / "siamese.dlspec").values()

    assert [row.count for row in rows(network) if row.type == "Tower"] == [1, 1]


def test_layers_of_a_block_stand_in_brackets() -> None:
    assert bracketed(["3×3, 64"], 1) == "[3×3, 64]"
    assert bracketed(["1×1, 64", "3×3, 64", "1×1, 256"], 3) == "⎡1×1, 64 ⎤\n⎢3×3, 64 ⎥ ×3\n⎣1×1, 256⎦"


def run(*arguments: str | Path) -> tuple[int, str]:
    from dlc.commands.show import command

    result = CliRunner().invoke(command, [str(a) for a in arguments])
    return result.exit_code, result.output


def test_show_layers_prints_every_call() -> None:
    status, out = run(SPECS / "lenet5.dlspec", "--layers")

    assert status == 0
    for name in ("c1", "tanh_1", "avg_pool_1", "flatten_1", "61,706"):
        assert name in out


def test_show_graph_writes_the_picture_and_json_says_where(tmp_path: Path) -> None:
    path = tmp_path / "lenet.svg"
    status, out = run(SPECS / "lenet5.dlspec", "--graph", path, "--json")

    assert status == 0 and path.read_text(encoding="utf-8").startswith("<?xml")
    result = json.loads(out.splitlines()[-1])
    assert result["graph"] == str(path)
    assert [model["params"] for model in result["models"]] == [61_706]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet5", "--depth", "1"], "--graph"),
        (["lenet5", "--block", "X"], "--graph"),
        (["lenet5", "--graph", "net.png"], "SVG"),
        (["lenet5", "--graph", "net.svg", "--layers"], "picture"),
        (["lenet5", "--graph", "net.svg", "--depth", "-1"], "range"),
        (["{networks}/residual", "--graph", "net.svg"], "2 models"),
        (["lenet5", "--graph", "{folder}/none/net.svg"], "make the folder first"),
        (["lenet5", "--graph", "{folder}/net.svg", "--block", "Incepton"], "no block"),
    ],
)
def test_show_says_what_is_wrong(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    spec, *rest = [a.format(folder=tmp_path, networks=NETWORKS) for a in arguments]
    monkeypatch.setattr("sys.argv", ["dlc", "show", str(SPECS / f"{spec}.dlspec"), *rest])

    with pytest.raises(SystemExit) as stop:
        main()
    err = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert stop.value.code in (1, 2)
    assert message in err and "Traceback" not in err
    assert not list(tmp_path.glob("*.svg"))


def test_a_narrow_terminal_gets_the_columns_in_several_tables() -> None:
    figure = table(shipped("googlenet", "GoogLeNet"))
    out = io.StringIO()
    report.print_table(figure, Console(file=out, width=100, force_terminal=True, no_color=True))

    lines = out.getvalue().splitlines()
    assert all(len(line) <= 100 for line in lines if line[:1] in "│├└┡")
    assert "1,498,376,192" in out.getvalue() and "…" not in out.getvalue()
    parts = figure.parts(100)
    assert len(parts) == 2 and all(part.width <= 100 for part in parts)
    assert [h for part in parts for h in part.headings[1:]] == list(figure.headings[1:])


def test_an_output_without_unicode_gets_plain_signs() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=out, width=160)
    report.print_table(table(shipped("resnet", "ResNet34")), console)
    out.flush()

    assert b"[3x3, 64] x3" in out.buffer.getvalue()  # type: ignore[attr-defined]
