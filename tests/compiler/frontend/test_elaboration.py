"""Expressions, combinators and arguments: what they evaluate to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dlc.compiler.errors import DlcError
from dlc.compiler.frontend import Checked
from dlc.compiler.network import Network

Body = Callable[..., Network]


def _shape(net: Network) -> tuple[int, ...]:
    return net.outputs[0].tensor.shape


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 3 * 4", 14), ("2 ** 3 ** 2 // 64", 8), ("-7 // 2 + 14", 10), ("17 % 5", 2), ("10 if 1 < 2 else 20", 10),
        ("len([1, 2, 3])", 3), ("sum([4, 5])", 9), ("min(7, 3) + max([1, 2])", 5), ("[8, 16][1]", 16), ("[8, 16][-2]", 8),
        ("len([1, 2, 3, 4][1..3])", 2), ("len(0..5)", 5), ("sum([i * j for i, j in [(1, 2), (3, 4)] if i > 1])", 12),
        ("sum([a for pair in [[1, 2], [3]] for a in pair])", 6), ("len([1] + [2, 3])", 3), ("len([0] * 6)", 6),
        ("sum([i * n for i, n in enumerate([5, 6])])", 6), ("sum([a * b for a, b in zip([1, 2], [3, 4])])", 11),
        ("sum(range(1, 6, 2))", 9), ("(x => x + 1)(4)", 5), ("((a, b) => a * b)(3, 4)", 12), ("len(\"abc\")", 3),
        ("4 if not false and (true or false) else 2", 4), ("4 if same == \"same\" else 2", 4),
        ("4 if 1 != 2 and 2 <= 2 and 3 >= 2 else 2", 4), ("4 if [1, 2] == [1, 2] and (1, 2) != (2, 1) else 2", 4),
        ("len(sum([[1, 2], [3]]))", 3), ("image.channels + image.height", 35), ("sum(image.shape)", 67),
    ],
)  # fmt: skip
def test_expressions_have_their_values(body: Body, expression: str, value: int) -> None:
    assert _shape(body(f"image -> conv({expression}, 1) -> output y"))[0] == value


def test_division_gives_a_float_and_floats_are_accepted_for_numbers(body: Body) -> None:
    net = body("image -> leaky_relu(1 / 4) -> dropout(25%) -> output y")

    assert net.calls[0].layer == type(net.calls[0].layer)(0.25)
    assert net.calls[1].layer.p == 0.25


@pytest.mark.parametrize(
    ("spelling", "other"),
    [
        ("image -> fork(relu, tanh) -> concat", "concat(image -> relu, image -> tanh)"),
        ("image -> residual(relu)", "image -> fork(relu, identity) -> add"),
        ("image -> fork(relu, tanh) -> add", "((image -> relu) + (image -> tanh)) -> identity"),
        ("image -> fork(relu, tanh) -> multiply", "((image -> relu) * (image -> tanh)) -> identity"),
        ("image -> conv(8, 3)", "conv(image, 8, 3)"),
        ("image -> repeat(2, relu)", "image -> relu -> relu"),
        ("image -> chain([relu, tanh])", "image -> relu -> tanh"),
        ("image -> relu()", "image -> relu"),
        ("image -> (x => concat(x, x -> tanh))", "concat(image, image -> tanh)"),
        ("image -> fork(fork(relu, tanh), relu) -> concat", "image -> fork(relu, tanh, relu) -> concat"),
        ("concat([image -> f for f in [relu, tanh]])", "concat(image -> relu, image -> tanh)"),
    ],
)
def test_two_spellings_make_the_same_network(body: Body, spelling: str, other: str) -> None:
    def shown(net: Network) -> list[tuple[object, ...]]:
        return [(c.layer, c.output.shape, tuple(t.shape for t in c.inputs)) for c in net.calls]

    assert shown(body(f"{spelling} -> output y")) == shown(body(f"{other} -> output y"))


def test_results_of_a_fork_are_taken_by_name(body: Body) -> None:
    net = body("a, b = image -> fork(conv(4, 1), conv(6, 1))\nconcat(b, a) -> output y")

    assert [t.shape[0] for t in net.calls[-1].inputs] == [6, 4]


def test_numbers_scale_and_shift_tensors(body: Body) -> None:
    net = body("(0.5 * (image -> relu) + 1) -> output y")

    assert [c.layer.keyword for c in net.calls] == ["relu", "scale", "offset"]


def test_a_block_takes_several_inputs_as_a_tuple(body: Body) -> None:
    net = body(
        "image -> fork(relu, tanh) -> Join -> output y",
        "block Join {\n    left, right = in\n    add(left, right -> conv(3, 1))\n}",
    )

    assert [c.layer.keyword for c in net.calls] == ["relu", "tanh", "conv", "add"]


def test_a_tensor_is_passed_to_a_block_by_name(body: Body) -> None:
    net = body(
        "skip = image -> relu\nimage -> tanh -> Merge(with=skip) -> output y",
        "block Merge(with) = concat(in, with)",
    )

    assert _shape(net) == (6, 32, 32)


def test_a_block_may_call_itself_as_long_as_it_ends(body: Body) -> None:
    net = body("image -> Halve(2) -> output y", "block Halve(n) = identity if n == 0 else max_pool(2) -> Halve(n - 1)")

    assert _shape(net) == (3, 8, 8)


def test_defaults_may_use_the_parameters_before_them(body: Body) -> None:
    net = body(
        "image -> B(8) -> output y", "block B(channels, inner = channels // 2) = conv(inner, 1) -> conv(channels, 1)"
    )

    assert [c.output.shape[0] for c in net.calls] == [4, 8]


def test_words_and_pairs_are_read_by_the_arguments_type(body: Body) -> None:
    net = body("image -> conv(8, (1, 3), stride=[1, 2], pad=same) -> max_pool(3, stride=2, round=ceil) -> output y")

    assert net.calls[0].layer.kernel == (1, 3)
    assert net.calls[0].layer.stride == (1, 2)
    assert _shape(net) == (8, 16, 8)


def test_a_word_passes_through_a_blocks_parameter(body: Body) -> None:
    net = body("image -> B(same) -> B() -> output y", "block B(pad = valid) = conv(3, 3, pad=pad)")

    assert [c.output.shape[1] for c in net.calls] == [32, 30]


def test_a_word_wins_over_a_parameter_whose_value_does_not_fit(body: Body) -> None:
    net = body("image -> B(8) -> output y", "block B(channels) = conv(channels, 1) -> slice(0, 4, axis=channels)")

    assert _shape(net) == (4, 32, 32)


def test_several_inputs_and_an_output_by_name(network: Callable[[str], Network]) -> None:
    net = network(
        "model Two {\n    input left: [1, 8, 8]\n    input right: [2, 8, 8]\n"
        "    both = concat(left, right)\n    output both\n}"
    )

    assert [i.name for i in net.inputs] == ["left", "right"]
    assert _shape(net) == (3, 8, 8)


def test_models_with_required_parameters_come_out_through_their_instances(checked: Callable[[str], Checked]) -> None:
    models = checked(
        """model Any(classes: int, hidden = 8) {
    input image: [3, 8, 8]
    image -> flatten -> h: linear(hidden) -> fc: linear(classes) -> output y
    expect y: [classes]
}

model Ten = Any(10) { expect fc.params = 90 }

model Wide(hidden = 32) = Any(10, hidden=hidden) { expect h: [32] }
"""
    ).models

    assert list(models) == ["Ten", "Wide"]
    assert [m.network.name for m in models.values()] == ["Ten", "Wide"]


def test_expectations_of_a_model_are_about_its_defaults(checked: Callable[[str], Checked]) -> None:
    text = """model Any(classes = 10, wide = g => 8) {{
    input image: [3, 8, 8]
    image -> flatten -> linear(wide(0)) -> linear(classes) -> output y
    expect y: [{expected}]
}}

model Five = Any(5) {{ expect y: [5] }}
model Ten = Any(classes=10)
"""
    models = checked(text.format(expected=10)).models

    assert {name: m.network.outputs[0].tensor.shape for name, m in models.items()} == {
        "Any": (10,), "Five": (5,), "Ten": (10,),
    }  # fmt: skip
    with pytest.raises(DlcError, match=r"`y` is \[10\], not \[11\]"):
        checked(text.format(expected=11))


def test_expectations_count_auxiliary_outputs_unless_they_say_inference(checked: Callable[[str], Checked]) -> None:
    models = checked(
        """model Net {
    input x: [4]
    x -> a: linear(2) -> output y
    x -> b: linear(3) -> output aux when training
    expect params = 25
    expect inference.params = 10
    expect macs = 20
    expect inference.macs = 8
    expect macs = 2.0e1
    expect b: [3]
}
"""
    ).models

    assert list(models) == ["Net"]
