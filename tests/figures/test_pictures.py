"""Pictures of networks: nothing lies over anything else, every layer is there, and the file is sound SVG."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path as File
from xml.etree import ElementTree

import pytest
from PIL import ImageFont

import dlc
from dlc import api
from dlc.compiler.errors import DlcError
from dlc.compiler.network import Network
from dlc.figures.flow import Block, Branches, Chain, Tangle, calls, flow
from dlc.figures.graph import graph
from dlc.figures.layout import LINE, SLANT
from dlc.figures.page import Picture, picture, readable_depth
from dlc.figures.shapes import RADIUS, Box, Frame, Join, Note, Path, measure
from dlc.figures.svg import write

SPECS = File(dlc.__file__).parent / "specs"
NETWORKS = File(__file__).parent.parent / "networks"
SHIPPED = [
    ("lenet5", "LeNet5"), ("lenet5_1998", "LeNet5"), ("mlp", "Mlp"), ("alexnet", "AlexNet"), ("alexnet", "AlexNetOf2012"),
    ("vgg", "VggA"), ("vgg", "VggALRN"), ("vgg", "VggC"), ("vgg", "VggD"), ("vgg", "VggEBN"), ("googlenet", "GoogLeNet"),
    ("googlenet", "GoogLeNetOf2014"), ("resnet", "ResNet18"), ("resnet", "ResNet34"), ("resnet", "ResNet34A"),
    ("resnet", "ResNet152"), ("resnet", "Plain34"), ("resnet_cifar", "ResNet20"), ("resnet_cifar", "ResNet110"),
]  # fmt: skip
OWN = sorted(path.stem for path in NETWORKS.glob("*.dlspec"))
Rectangle = tuple[float, float, float, float]


@cache
def models(path: File) -> dict[str, Network]:
    return {network.name: network for network in api.networks(path)}


def shipped(file: str, model: str) -> Network:
    return models(SPECS / f"{file}.dlspec")[model]


def first(name: str) -> Network:
    return next(iter(models(NETWORKS / f"{name}.dlspec").values()))


def everything() -> list[pytest.ParameterSet]:
    made = [pytest.param(f, m, id=f"{f}-{m}") for f, m in SHIPPED]
    return made + [pytest.param(name, None, id=name) for name in OWN]


def network(file: str, model: str | None) -> Network:
    return first(file) if model is None else shipped(file, model)


def rectangle(shape: Box | Join | Note | Frame) -> Rectangle:
    """Left, top, right, bottom."""
    if isinstance(shape, Join):
        return shape.x - RADIUS, shape.y - RADIUS, shape.x + RADIUS, shape.y + RADIUS
    if isinstance(shape, Note):
        left = {"start": 0.0, "middle": 0.5, "end": 1.0}[shape.anchor] * shape.line.width
        return shape.x - left, shape.y - 0.75 * shape.line.size, shape.x - left + shape.line.width, shape.y
    behind = shape.behind if isinstance(shape, Box) else 0.0
    return shape.x, shape.y, shape.x + shape.width + behind, shape.y + shape.height + behind


def overlap(a: Rectangle, b: Rectangle) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > 0.5 and min(a[3], b[3]) - max(a[1], b[1]) > 0.5


def solid(seen: Picture) -> list[Box | Join]:
    return [s for s in seen.shapes if isinstance(s, Box | Join)]


def segments(seen: Picture) -> Iterator[Rectangle]:
    for shape in seen.shapes:
        if isinstance(shape, Path):
            for (x, y), (u, v) in pairwise(shape.points):
                yield min(x, u) - 0.4, min(y, v) - 0.4, max(x, u) + 0.4, max(y, v) + 0.4


@pytest.mark.parametrize("depth", [None, 0, 1, 99], ids=["readable", "closed", "half", "open"])
@pytest.mark.parametrize(("file", "model"), everything())
def test_nothing_lies_over_anything_else(file: str, model: str | None, depth: int | None) -> None:
    seen = picture(network(file, model), depth)

    boxes = solid(seen)
    for a, b in combinations(boxes, 2):
        assert not overlap(rectangle(a), rectangle(b)), (a, b)
    notes = [s for s in seen.shapes if isinstance(s, Note)]
    for note in notes:
        assert not any(overlap(rectangle(note), rectangle(b)) for b in boxes), note
    for a, b in combinations(notes, 2):
        assert not overlap(rectangle(a), rectangle(b)), (a, b)
    for line in segments(seen):
        for box in boxes:
            left, top, right, bottom = rectangle(box)
            assert not overlap(line, (left + 1, top + 1, right - 1, bottom - 1)), (line, box)
        for note in notes:
            assert not overlap(line, rectangle(note)), (line, note)


@pytest.mark.parametrize("depth", [None, 0, 1, 99], ids=["readable", "closed", "half", "open"])
@pytest.mark.parametrize(("file", "model"), everything())
def test_everything_is_on_the_page_and_text_is_in_its_box(file: str, model: str | None, depth: int | None) -> None:
    seen = picture(network(file, model), depth)

    for shape in seen.shapes:
        if isinstance(shape, Path):
            assert all(0 <= x <= seen.width and 0 <= y <= seen.height for x, y in shape.points)
            continue
        left, top, right, bottom = rectangle(shape)
        assert left >= 0 and top >= 0 and right <= seen.width and bottom <= seen.height, shape
        if isinstance(shape, Box):
            room = shape.width - (2 * SLANT if shape.form in ("narrows", "widens") else 0)
            assert all(line.width + 8 <= room for line in shape.lines), shape
            assert LINE * len(shape.lines) <= shape.height


@pytest.mark.parametrize("depth", [None, 0, 1, 99], ids=["readable", "closed", "half", "open"])
@pytest.mark.parametrize(("file", "model"), everything())
def test_every_layer_is_shown_once(file: str, model: str | None, depth: int | None) -> None:
    net = network(file, model)
    seen = flow(net, readable_depth(net) if depth is None else depth)

    shown = [c for chain in (seen.main, *(side.chain for side in seen.sides)) for c in calls(chain)]
    assert len(shown) == len(set(map(id, shown))) == len(net.calls)
    drawn = {name for s in picture(net, depth).shapes if isinstance(s, Box | Join | Frame) for name in s.calls}
    assert drawn == {call.name for call in net.calls}


@pytest.mark.parametrize(("file", "model"), everything())
def test_the_file_is_sound_svg(file: str, model: str | None) -> None:
    text = graph(network(file, model))

    root = ElementTree.fromstring(text)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and {"title", "desc", "text"} <= names
    assert names <= {"svg", "title", "desc", "style", "rect", "g", "text", "tspan", "path", "polygon", "circle"}
    assert root.attrib["viewBox"] == f"0 0 {root.attrib['width']} {root.attrib['height']}"
    assert "nan" not in text and "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_a_text_is_never_wider_than_it_is_measured() -> None:
    """Pillow brings a font of Helvetica's proportions; the measure holds for wider ones too."""
    seen = picture(shipped("googlenet", "GoogLeNet"), 99)
    lines = {
        line
        for s in seen.shapes
        for line in (s.lines if isinstance(s, Box) else (s.line,) if isinstance(s, Note) else ())
    }
    assert len(lines) > 40

    for line in lines:
        font = ImageFont.load_default(100)
        assert font.getlength(line.text) / 100 * line.size <= measure(line.text, line.size)


def test_a_picture_is_the_same_each_time() -> None:
    program = (
        "from dlc import api; from dlc.figures.graph import graph; import sys; "
        "print(graph(api.one_network(sys.argv[1], model='GoogLeNet')))"
    )
    spec = str(SPECS / "googlenet.dlspec")
    made = {
        subprocess.run(
            [sys.executable, "-c", program, spec],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(made) == 1


def test_drawing_loads_nothing_that_computes() -> None:
    program = (
        "import sys; from dlc import api; net = api.one_network(sys.argv[1]); before = set(sys.modules); "
        "from dlc.figures.graph import graph; graph(net); new = set(sys.modules) - before; "
        "print([m for m in ('numpy', 'tvm', 'tvm_ffi', 'PIL', 'rich') if m in new])"
    )
    spec = str(SPECS / "lenet5.dlspec")
    done = subprocess.run([sys.executable, "-c", program, spec], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_blocks_that_are_equal_are_drawn_once_with_their_number() -> None:
    seen = flow(shipped("resnet", "ResNet34"), 99)

    blocks = [e for e in seen.main.elements if isinstance(e, Block)]
    assert [len(b.groups) for b in blocks] == [3, 1, 3, 1, 5, 1, 2]
    assert all(isinstance(b.content, Chain) and isinstance(b.content.elements[0], Branches) for b in blocks)


def test_a_shortcut_without_layers_is_an_empty_branch_and_a_projection_one_with_a_layer() -> None:
    seen = flow(shipped("resnet", "ResNet34"), 99)

    first_block, strided = (e for e in seen.main.elements[:5] if isinstance(e, Block))
    for block, layers in ((first_block, 0), (strided, 2)):
        assert block.content is not None
        (branches,) = block.content.elements
        assert isinstance(branches, Branches) and branches.join is not None
        assert sorted(len(calls(b)) for b in branches.branches)[0] == layers
        assert branches.join.calls[0].layer.keyword == "add"


def test_heads_leave_at_the_side_dashed() -> None:
    net = shipped("googlenet", "GoogLeNetOf2014")
    seen = flow(net, 0)

    assert [side.training_only for side in seen.sides] == [True, True]
    leaving = [seen.main.elements[side.at] for side in seen.sides]
    assert [e.groups[0].name for e in leaving if isinstance(e, Block)] == ["inception4a", "inception4d"]
    dashed = {s.calls[0] for s in picture(net, 0).shapes if isinstance(s, Box) and s.dashed and s.calls}
    assert {name.partition(".")[0] for name in dashed} == {"aux1", "aux2"}


def test_a_second_output_leaves_at_the_side_solid() -> None:
    seen = flow(first("recursion"), 0)

    assert not any(isinstance(e, Tangle) for e in seen.main.elements)
    assert {side.training_only for side in seen.sides} <= {False}


def test_what_crosses_is_drawn_as_a_graph() -> None:
    seen = flow(first("siamese"), 0)

    (tangle,) = [e for e in seen.main.elements if isinstance(e, Tangle)]
    assert len(tangle.edges) >= len(tangle.nodes)


def test_a_network_deeper_than_a_reader_follows_shows_its_blocks_beside_it() -> None:
    net = shipped("googlenet", "GoogLeNet")

    titles = [s.line.text for s in picture(net).shapes if isinstance(s, Note) and s.anchor == "end"]
    assert readable_depth(net) == 0 and titles == ["InceptionBN", "HeadBN"]


@pytest.mark.parametrize(("name", "widths"), [("Inception", "64"), ("inception4e", "256")])
def test_a_block_is_drawn_by_its_name_or_that_of_a_call(name: str, widths: str) -> None:
    text = graph(shipped("googlenet", "GoogLeNetOf2014"), block=name)

    assert f"1×1 conv, {widths}<" in text and "5×5 conv" in text and "concat" in text


def test_a_block_that_is_not_there_is_refused_with_advice() -> None:
    with pytest.raises(DlcError) as error:
        graph(shipped("googlenet", "GoogLeNet"), block="InceptionBM")

    assert error.value.diagnostics[0].code == "E0617"
    assert "InceptionBN" in error.value.diagnostics[0].help


def test_sizes_stand_where_they_change() -> None:
    notes = [s.line.text for s in picture(shipped("lenet5", "LeNet5")).shapes if isinstance(s, Note)]

    for size in ("6×28×28", "6×14×14", "16×10×10", "400", "120", "84", "10"):
        assert notes.count(size) == 1


def test_a_long_network_is_broken_into_columns_of_about_one_height() -> None:
    seen = picture(shipped("vgg", "VggD"))

    assert 0.6 < seen.width / seen.height < 1.8


@pytest.mark.parametrize("count", [1, 3, 400])
def test_any_number_of_layers_is_drawn(tmp_path: File, count: int) -> None:
    spec = tmp_path / "long.dlspec"
    spec.write_text(
        f"model M {{\n    input x: [4, 8, 8]\n    x -> repeat({count}, conv(4, 3, pad=1) -> relu) -> output y\n}}\n"
    )

    seen = picture(api.one_network(spec))
    assert len([s for s in seen.shapes if isinstance(s, Box) and s.calls]) >= 1
    ElementTree.fromstring(write(seen))


def test_names_are_escaped() -> None:
    join = Join(9, 9, "+", "<&>")
    ElementTree.fromstring(write(Picture(20, 20, (join,), "<a>", "b & c")))


DOCS = File(__file__).parent.parent.parent / "docs"
SHOWN = [
    ("resnet34", "resnet", "ResNet34", None), ("googlenet", "googlenet", "GoogLeNetOf2014", None),
    ("inception", "googlenet", "GoogLeNetOf2014", "Inception"), ("lenet5", "lenet5", "LeNet5", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "model", "block"), SHOWN, ids=[name for name, *_ in SHOWN])
def test_the_pictures_of_the_docs_are_what_is_drawn(
    name: str, file: str, model: str, block: str | None, request: pytest.FixtureRequest
) -> None:
    path = DOCS / "pictures" / f"{name}.svg"
    text = graph(shipped(file, model), block=block)
    if request.config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")

    assert path.read_text(encoding="utf-8") == text
    assert f"pictures/{name}.svg" in (DOCS / "pictures.md").read_text(encoding="utf-8")
