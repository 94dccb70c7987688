"""One run reports all mistakes of a file, each once, and nothing that only follows from another."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dlc.compiler.errors import Diagnostic

Mistakes = Callable[..., list[Diagnostic]]


def _net(statements: str, blocks: str = "") -> str:
    return f"{blocks}\nmodel Net {{\n    input image: [3, 32, 32]\n{statements}\n}}\n"


@pytest.mark.parametrize(
    "chain",
    [
        "oops -> relu -> flatten -> linear(10)", "conv(oops, 3) -> max_pool(2) -> linear(10)", "conv(8, 99) -> linear(10)",
        "B(oops) -> B(3) -> flatten", "repeat(oops, conv(8, 3)) -> linear(10)", "repeat(3, i => conv(oops, i)) -> linear(10)",
        "chain([conv(c, 3) for c in oops]) -> linear(10)", "(relu if oops else tanh) -> linear(10)",
        "fork(oops, relu) -> concat -> linear(10)", "residual(oops) -> linear(10)", "c1: oops -> linear(10)",
        "conv(image.oops + 1, 3) -> linear(10)", "conv([1, 2][oops], 3) -> linear(10)", "conv(8 if oops else 9, 3) -> linear(1)",
        "conv(len(oops) + min(oops, 2) + sum([oops]), 3) -> linear(10)", "oops(3)(4).a[5] -> linear(10)",
        "conv(3, 1, bias=not oops) -> linear(10)", "conv(3, (1, oops)) -> linear(10)", "conv(-oops, 1 < oops and oops) -> flatten",
        "(x => oops) -> linear(10)", "multiply(oops) -> linear(3)", "add(oops, image) -> linear(10)", "conv(oops, 8, 3) -> relu",
    ],
)  # fmt: skip
def test_a_mistake_makes_no_noise(mistakes: Mistakes, chain: str) -> None:
    text = _net(
        f"    x = image -> {chain}\n    x -> relu -> out: linear(4) -> output y\n    output x\n    (x + x) -> output z\n"
        f"    a, b = x\n    concat(a, b, x) -> output c\n    expect params = 7\n    expect y: [9]",
        "block B(channels, f = relu) = conv(channels, 3) -> f",
    )

    found = mistakes(text)

    assert len({(d.span.start, d.code) for d in found if d.span}) == len(found)
    assert all("oops" in d.message or d.code == "E0302" for d in found)
    assert {d.span.line for d in found if d.span} == {4}


def test_mistakes_in_models_data_and_recipes_come_out_together_in_the_files_order(mistakes: Mistakes) -> None:
    text = (
        _net("    image -> conv(8, 3, pat=1) -> oops -> output y", "block Unused = tanh(1)")
        + 'data d { source minst }\ntrain T {\n    model Net\n    data d\n    loss mse("x")\n    optimizer sdg\n    epochs 0\n}\n'
    )

    found = mistakes(text)

    assert [d.code for d in found] == ["E0503", "E0501", "E0401", "E0809", "E0809", "E0809", "E0807"] or [
        d.code for d in found
    ] == ["E0503", "E0501", "E0401", "E0809", "E0503", "E0809", "E0807"]


def test_a_block_that_is_called_many_times_reports_its_mistake_once(mistakes: Mistakes) -> None:
    found = mistakes(_net("    image -> repeat(5, i => B(8)) -> output y", "block B(c) = conv(c, 3, strides=1)"))

    assert [d.code for d in found] == ["E0501"]
    assert found[0].notes == ("in B(c=8), from Net at line 4",)


@pytest.mark.parametrize(
    ("block", "code"),
    [
        ("block Unused(c) = conv(c, kernel=3, strides=2)", "E0501"),
        ("block Unused(c) = conv(c, \"3\")", "E0505"),
        ("block Unused(c) = repeat(c, i => conv(8, 0))", "E0506"),
        ("block Unused(c) = conv(8, 3) -> oops", "E0401"),
        ("block Unused(c) = identity if c else conv(8)", "E0502"),
        ("block Unused {\n    x = in -> conv(8, 3, 1, 1, 1, 1, true, 5)\n    x\n}", "E0503"),
        ("model Unused(c) {\n    input x: [c, 8, 8]\n    x -> conv(8, 3, bias=3) -> output y\n}", "E0505"),
    ],
)  # fmt: skip
def test_what_is_never_used_is_checked_too(mistakes: Mistakes, block: str, code: str) -> None:
    found = mistakes(_net("    image -> relu -> output y", block))

    assert [d.code for d in found] == [code]


def test_a_recursive_block_that_nothing_calls_is_no_mistake(checked: Callable[..., object]) -> None:
    checked(_net("    image -> relu -> output y", "block R(n) = identity if n == 0 else relu -> R(n - 1)"))
