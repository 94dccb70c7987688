"""The names of weights: labels, numbers, positions, sharing."""

from __future__ import annotations

from collections.abc import Callable

from dlc.compiler.network import Network

Body = Callable[..., Network]


def _weights(net: Network) -> list[str]:
    return [n.removesuffix(".weight") for n in net.parameter_specs() if n.endswith(".weight")]


def test_unnamed_layers_are_counted_by_keyword_within_their_scope(body: Body) -> None:
    net = body("image -> conv(8, 3) -> relu -> conv(8, 3) -> c: conv(8, 3) -> conv(4, 3) -> output y")

    assert _weights(net) == ["conv_1", "conv_2", "c", "conv_3"]
    assert [c.name for c in net.calls if c.layer.keyword == "relu"] == ["relu_1"]


def test_formatting_renames_nothing(body: Body) -> None:
    one = body("image -> conv(8, 3) -> relu -> conv(8, 3) -> output y")
    other = body("image  # a comment\n-> conv( 8,3 )\n\n-> (relu)\n-> conv(\n8, 3) -> output y")

    assert [c.name for c in one.calls] == [c.name for c in other.calls]


def test_a_block_call_opens_a_scope_under_its_label_or_its_name(body: Body) -> None:
    net = body(
        "image -> ConvBN(8) -> ConvBN(8) -> stem: ConvBN(8) -> output y",
        "block ConvBN(channels) = conv(channels, 3) -> bn: batch_norm",
    )

    assert _weights(net) == [f"{s}.{n}" for s in ("ConvBN_1", "ConvBN_2", "stem") for n in ("conv_1", "bn")]


def test_items_of_repeat_and_chain_are_numbered(body: Body) -> None:
    net = body(
        """image -> layer1: repeat(2, i => B(8)) -> features: chain([conv(8, 3), relu, conv(8, 3)])
        -> down: (conv(8, 1) -> batch_norm) -> d: chain([conv(4, 1), batch_norm]) -> output y""",
        "block B(channels) = conv1: conv(channels, 3) -> bn1: batch_norm",
    )

    assert _weights(net) == [
        "layer1.0.conv1", "layer1.0.bn1", "layer1.1.conv1", "layer1.1.bn1", "features.0", "features.2",
        "down.conv_1", "down.batch_norm_1", "d.0", "d.1",
    ]  # fmt: skip


def test_a_second_chain_in_a_scope_counts_on(body: Body) -> None:
    net = body("image -> repeat(2, conv(8, 3)) -> chain([conv(8, 3)]) -> output y")

    assert _weights(net) == ["0", "1", "2"]


def test_labels_in_forks_and_residuals_name_weights_of_the_scope_around(body: Body) -> None:
    net = body(
        """image -> inception3a: Inception -> residual(body: conv(16, 3, pad=same), short: conv(16, 1)) -> output y""",
        """block BasicConv(channels) = conv: conv(channels, 1) -> bn: batch_norm
block Inception = fork(
    branch1: BasicConv(8),
    branch2: chain([BasicConv(4), BasicConv(4)]),
    branch4: chain([max_pool(3, stride=1, pad=1), BasicConv(4)]),
) -> concat""",
    )

    assert _weights(net) == [
        "inception3a.branch1.conv", "inception3a.branch1.bn",
        "inception3a.branch2.0.conv", "inception3a.branch2.0.bn", "inception3a.branch2.1.conv",
        "inception3a.branch2.1.bn", "inception3a.branch4.1.conv", "inception3a.branch4.1.bn", "body", "short",
    ]  # fmt: skip


def test_the_names_of_torchvisions_resnet_can_be_written(body: Body) -> None:
    net = body(
        """image -> conv1: conv(64, 7, stride=2, pad=3, bias=false) -> bn1: batch_norm -> relu
        -> layer1: repeat(2, i => Basic(64)) -> layer2: repeat(2, i => Basic(128, 2 if i == 0 else 1))
        -> global_avg_pool -> fc: linear(10) -> output y""",
        """block Basic(channels, stride = 1) {
    body = conv1: conv(channels, 3, stride=stride, pad=1, bias=false) -> bn1: batch_norm -> relu
        -> conv2: conv(channels, 3, pad=1, bias=false) -> bn2: batch_norm
    project = downsample: chain([conv(channels, 1, stride=stride, bias=false), batch_norm])
    in -> residual(body, identity if stride == 1 and in.channels == channels else project) -> relu
}""",
    )

    names = set(net.parameter_specs())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer1.1.bn2.bias", "fc.bias"} <= names
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.weight", "layer2.1.conv2.weight"} <= names


def test_a_name_used_twice_shares_its_weights(body: Body) -> None:
    net = body("shared = conv(3, 3, pad=same)\nimage -> shared -> relu -> shared -> output y")

    first, _, second = net.calls
    assert first.weights == second.weights == {"weight": "conv_1.weight", "bias": "conv_1.bias"}
    assert len(net.parameter_specs()) == 2


def test_a_block_instance_used_twice_shares_all_its_weights(body: Body) -> None:
    net = body(
        "tower = t: Tower\nconcat(image -> tower, image -> relu -> tower) -> conv(4, 1) -> output y",
        "block Tower {\n    a = conv(8, 3, pad=same)\n    in -> a -> relu -> conv(8, 3) -> repeat(2, conv(8, 1))\n}",
    )

    assert _weights(net) == ["t.conv_1", "t.conv_2", "t.0", "t.1", "conv_1"]
    assert sum(c.layer.keyword == "conv" for c in net.calls) == 9


def test_block_calls_and_layer_names_make_fresh_weights_each_time(body: Body) -> None:
    net = body(
        "norm = batch_norm\nimage -> norm -> norm -> B -> B -> output y",
        "block B = conv(3, 1)",
    )

    assert _weights(net) == ["batch_norm_1", "batch_norm_2", "B_1.conv_1", "B_2.conv_1"]


def test_repeat_copies_are_fresh_even_of_a_named_stage(body: Body) -> None:
    net = body("a = conv(3, 1)\nimage -> a -> repeat(2, a) -> a -> output y")

    assert _weights(net) == ["conv_1", "0", "1"]


def test_what_a_copied_stage_shares_inside_stays_shared(body: Body) -> None:
    net = body("a = conv(3, 1)\nimage -> repeat(2, a -> relu -> a) -> output y")

    assert _weights(net) == ["0.conv_1", "1.conv_1"]
    assert sum(c.layer.keyword == "conv" for c in net.calls) == 4


def test_a_shared_stage_passed_into_a_shared_block_keeps_its_name(body: Body) -> None:
    net = body(
        "inner = conv(3, 1)\nouter = o: B(inner)\nimage -> outer -> outer -> inner -> output y",
        "block B(f) = f -> conv(3, 3, pad=same) -> f",
    )

    assert _weights(net) == ["o.conv_1", "o.conv_2"]
    assert [c.name for c in net.calls if c.layer.keyword == "conv"] == ["o.conv_1", "o.conv_2", "o.conv_1"] * 2 + [
        "o.conv_1"
    ]
