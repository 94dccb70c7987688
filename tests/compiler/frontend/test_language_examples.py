"""The examples of the language's description, verbatim: they check, and they mean what their comments say."""

from __future__ import annotations

from collections.abc import Callable

from dlc.compiler.frontend import Checked
from dlc.compiler.network import Network

LENET5 = """
# LeNet-5 as it is built today.
model LeNet5(classes: int = 10) {
    input image: [1, 32, 32]                  # channels, height, width; the batch is implicit

    image
        -> c1: conv(6, 5) -> tanh -> avg_pool(2)
        -> c3: conv(16, 5) -> tanh -> avg_pool(2)
        -> flatten
        -> c5: linear(120) -> tanh
        -> f6: linear(84) -> tanh
        -> out: linear(classes)
        -> output logits

    expect params = 61_706
    expect logits: [10]
}
"""

RESNET = """
block ConvBN(channels, kernel, stride = 1) =
    conv(channels, kernel, stride=stride, pad=same, bias=false) -> batch_norm

block Basic(channels, stride = 1) {
    body  = ConvBN(channels, 3, stride) -> relu -> ConvBN(channels, 3)
    short = identity if stride == 1 and in.channels == channels else ConvBN(channels, 1, stride)
    in -> residual(body, short) -> relu       # `in` is the block's input; the last expression is its value
}

block Stage(block, channels, count, stride) =
    repeat(count, i => block(channels, stride if i == 0 else 1))

model ResNet(block, depths: list[int], classes: int = 1000) {
    input image: [3, 224, 224]
    image -> ConvBN(64, 7, 2) -> relu -> max_pool(3, stride=2, pad=1)
          -> Stage(block,  64, depths[0], 1) -> Stage(block, 128, depths[1], 2)
          -> Stage(block, 256, depths[2], 2) -> Stage(block, 512, depths[3], 2)
          -> global_avg_pool -> linear(classes) -> output logits
}

model ResNet18 = ResNet(Basic, [2, 2, 2, 2]) { expect params = 11_689_512 }
"""

INCEPTION = """
block Inception(c1, r3, c3, r5, c5, proj) =
    fork(
        conv(c1, 1) -> relu,
        conv(r3, 1) -> relu -> conv(c3, 3, pad=same) -> relu,
        conv(r5, 1) -> relu -> conv(c5, 5, pad=same) -> relu,
        max_pool(3, stride=1, pad=1) -> conv(proj, 1) -> relu,
    ) -> concat

model Net {
    input image: [192, 28, 28]
    image -> inception3a: Inception(64, 96, 128, 16, 32, 32) -> output features
    expect features: [256, 28, 28]
}
"""

AUXILIARY = """
block Stem = conv(8, 3, pad=same) -> relu

block AuxHead(classes) = global_avg_pool -> linear(classes)

model Net {
    input image: [3, 32, 32]
    mid = image -> Stem
    mid -> AuxHead(1000) -> output aux1 when training
    mid -> max_pool(2) -> flatten -> linear(10) -> output logits
}
"""

RECIPE = """
data mnist {
    source    mnist                           # built in: mnist-mini (ships with the package), mnist, fashion-mnist, cifar10, cifar100,
                                              # image folders, .npz, parquet; a directory is given with --data or path=
    validate  10%                             # split off the training part, deterministic
    resize    32
    normalize per_channel                     # or mean=…, std=…; `per_channel` is computed from the training part and stored
    augment   shift(2) -> rotate(10deg)       # stages again, applied to training samples only
}

train LeNet5OnMnist {
    model      LeNet5(classes=10)
    data       mnist
    loss       cross_entropy(label_smoothing=0.1)
    optimizer  sgd(lr=0.1, momentum=0.9, nesterov=true)
    schedule   warmup(1 epoch) then cosine(to=0)
    regularize l2(5e-4, except=[bias, batch_norm])
    init       he
    batch      128
    epochs     12
    stop       early(monitor=val.error, patience=4)
    metrics    error, top_k_error(5)
    seed       0
}
"""


def test_lenet5_has_its_layers_names_and_shapes(network: Callable[[str], Network]) -> None:
    net = network(LENET5)

    assert [(c.name, c.output.shape) for c in net.calls] == [
        ("c1", (6, 28, 28)), ("tanh_1", (6, 28, 28)), ("avg_pool_1", (6, 14, 14)),
        ("c3", (16, 10, 10)), ("tanh_2", (16, 10, 10)), ("avg_pool_2", (16, 5, 5)), ("flatten_1", (400,)),
        ("c5", (120,)), ("tanh_3", (120,)), ("f6", (84,)), ("tanh_4", (84,)), ("out", (10,)),
    ]  # fmt: skip
    assert list(net.parameter_specs()) == [
        f"{n}.{k}" for n in ("c1", "c3", "c5", "f6", "out") for k in ("weight", "bias")
    ]
    assert [(i.name, i.shape) for i in net.inputs] == [("image", (1, 32, 32))]
    assert [(o.name, o.training_only) for o in net.outputs] == [("logits", False)]


def test_resnet18_is_built_from_blocks_that_take_blocks(checked: Callable[[str], Checked]) -> None:
    models = checked(RESNET).models

    net = models["ResNet18"].network
    assert list(models) == ["ResNet18"]
    assert net.name == "ResNet18"
    assert sum(c.layer.keyword == "conv" for c in net.calls) == 20
    assert sum(c.layer.keyword == "add" for c in net.calls) == 8
    assert net.outputs[0].tensor.shape == (1000,)
    first = next(c for c in net.calls if c.name == "Stage_2.0.ConvBN_1.conv_1")
    assert first.output.shape == (128, 28, 28)
    assert [frame.description for frame in first.chain] == [
        "ConvBN(channels=128, kernel=3, stride=2)", "Basic(channels=128, stride=2)",
        "Stage(block=Basic, channels=128, count=2, stride=2)", "ResNet(block=Basic, depths=[2, 2, 2, 2], classes=1000)",
    ]  # fmt: skip


def test_inception_concatenates_its_branches(network: Callable[[str], Network]) -> None:
    net = network(INCEPTION)

    assert len(net.calls) == 14
    assert [t.shape[0] for t in net.calls[-1].inputs] == [64, 128, 32, 32]
    assert "inception3a.conv_6.weight" in net.parameter_specs()


def test_outputs_when_training_are_absent_from_inference(network: Callable[[str], Network]) -> None:
    net = network(AUXILIARY)

    inference = {c.name for c in net.inference_calls()}
    assert [(o.name, o.training_only) for o in net.outputs] == [("aux1", True), ("logits", False)]
    assert "AuxHead_1.linear_1" in {c.name for c in net.calls} - inference


def test_data_and_train_sections_become_a_recipe(checked: Callable[[str], Checked]) -> None:
    recipe = checked(LENET5 + RECIPE).recipes["LeNet5OnMnist"]

    assert (recipe.batch, recipe.epochs, recipe.steps, recipe.seed) == (128, 12, None, 0)
    assert recipe.network.name == "LeNet5"
    assert recipe.data.source.keyword == "mnist"
    assert (recipe.data.validate, recipe.data.resize, recipe.data.normalize) == (0.1, (32, 32), "per_channel")
    assert [(t.keyword, vars(t)) for t in recipe.data.augment] == [
        ("shift", {"pixels": 2}),
        ("rotate", {"angle": 10.0}),
    ]
    (loss,) = recipe.losses
    assert (loss.loss.keyword, loss.output, loss.weight) == ("cross_entropy", "logits", 1.0)
    (group,) = recipe.optimizers
    assert vars(group.optimizer).items() >= {"lr": 0.1, "momentum": 0.9, "nesterov": True}.items()
    assert [s.keyword for s in recipe.schedules] == ["warmup", "cosine"]
    (rule,) = recipe.regularizers
    assert (rule.kind, rule.rate, rule.excluded) == ("l2", 5e-4, ("bias", "batch_norm"))
    assert [g.initializer.keyword for g in recipe.init] == ["he"]
    assert (recipe.stop.keyword, recipe.stop.monitor, recipe.stop.patience) == ("early", "val.error", 4)
    assert [m.keyword for m in recipe.metrics] == ["error", "top_k_error"]
    assert recipe.settings["schedule"] == "warmup(1 epoch) then cosine(to=0)"
