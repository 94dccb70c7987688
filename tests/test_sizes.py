"""Images of other sizes than the spec's: compiled when first seen, the same weights, the answers of torchvision."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import dlc
from dlc import api, loading, measuring
from dlc.cli import main
from dlc.runtime.artifact import Artifact, Variant, load_artifact, save_artifact
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.session import Session
from dlc.runtime.session import load as load_alone
from tests.models.conftest import IMPORTS, settle

CONVOLUTIONAL = """
model Net {
    input image: [3, 32, 32]
    image -> conv(8, 3, stride=2, pad=1, bias=false) -> batch_norm -> relu -> conv(16, 3, stride=2, bias=false) -> batch_norm
        -> relu -> global_avg_pool -> fc: linear(5) -> output scores
}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dlc" / "programs"


@pytest.fixture
def spec(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "net.dlspec"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def artifact(spec: Callable[[str], Path], tmp_path: Path) -> Path:
    """The convolutional network, for its own size alone."""
    api.compile_to_file(spec(CONVOLUTIONAL), tmp_path / "net.dlc")
    return tmp_path / "net.dlc"


def images(height: int, width: int, count: int = 2, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, channels, height, width), np.float32)


def error_against(module: nn.Module, session: Session, size: tuple[int, int]) -> float:
    """The largest difference from the module's answers in float64, relative to the largest answer."""
    given = images(*size)
    with torch.inference_mode():
        expected = module.double().eval()(torch.from_numpy(given).double()).numpy()
    return float(np.abs(session(given) - expected).max() / np.abs(expected).max())


def twins(expression: str, module: nn.Module, spec: Callable[[str], Path], folder: Path) -> tuple[nn.Module, Session]:
    """A shipped model, saved with a module's weights and opened again, and the module."""
    torch.manual_seed(0)
    save_file(settle(module).state_dict(), folder / "weights.safetensors")
    api.compile_to_file(
        spec(f"{IMPORTS}\n\nmodel Model = {expression}\n"),
        folder / "model.dlc",
        weights=folder / "weights.safetensors",
    )
    return module, dlc.load(folder / "model.dlc")


def resnet(models: Any, block: str, depths: list[int], classes: int = 1000) -> nn.Module:
    return models.resnet.ResNet(getattr(models.resnet, block), depths, classes)  # type: ignore[no-any-return]


def test_a_small_residual_network_gives_torchvisions_answers_at_other_sizes(
    spec: Any, tmp_path: Path, torchvision_models: Any
) -> None:
    made = resnet(torchvision_models, "BasicBlock", [1, 1, 1, 1], 10)
    module, session = twins("resnet.ResNet(Basic, [1, 1, 1, 1], classes=10, size=64)", made, spec, tmp_path)

    for size in [(48, 80), (65, 33), (64, 64)]:
        assert error_against(module, session, size) < 1e-4, size


def test_adaptive_pooling_takes_images_whose_size_it_does_not_divide(
    spec: Any, tmp_path: Path, torchvision_models: Any
) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(7), nn.Flatten())
    module.append(nn.Linear(8 * 49, 5))
    state = {f"{scope}.{k}": v for i, scope in ((0, "c"), (4, "fc")) for k, v in module[i].state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    text = "model Net {\n input image: [3, 14, 14]\n image -> c: conv(8, 3, pad=1) -> relu -> adaptive_avg_pool(7)"
    path = spec(text + " -> flatten -> fc: linear(5) -> output scores\n}")
    session = dlc.compile(path, weights=tmp_path / "w.safetensors")

    for size in [(14, 14), (28, 21), (17, 23), (5, 9)]:
        assert error_against(module, session, size) < 1e-5, size


FULL = {
    "alexnet": ("alexnet.AlexNet", lambda m: m.AlexNet()),
    "vgg11": ("vgg.VggA", lambda m: m.vgg11()),
    "vgg16_bn": ("vgg.VggDBN", lambda m: m.vgg16_bn()),
    "googlenet": ("googlenet.GoogLeNet", lambda m: m.GoogLeNet(1000, True, False, True)),
    "resnet18": ("resnet.ResNet18", lambda m: m.resnet18()),
    "resnet50": ("resnet.ResNet50", lambda m: m.resnet50()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_a_network_of_full_size_gives_torchvisions_answers_at_other_sizes(
    name: str, spec: Any, tmp_path: Path, torchvision_models: Any
) -> None:
    expression, make = FULL[name]
    module, session = twins(expression, make(torchvision_models), spec, tmp_path)

    errors = {size: error_against(module, session, size) for size in [(160, 192), (256, 256), (193, 225)]}
    assert max(errors.values()) < 1e-4, errors


def test_a_program_is_compiled_once_for_all_sessions(artifact: Path, cache: Path, monkeypatch: Any) -> None:
    first = dlc.load(artifact)(images(20, 40))
    (made,) = cache.iterdir()
    monkeypatch.setattr(loading, "_compiled", lambda *arguments: pytest.fail("it is compiled again"))
    session = dlc.load(artifact)

    np.testing.assert_array_equal(session(images(20, 40)), first)
    assert session.sizes == (((32, 32),), ((20, 40),))
    assert made.stat().st_size < artifact.stat().st_size  # it holds none of the weights that the artifact has


def test_a_cached_program_that_is_not_whole_is_made_anew(artifact: Path, cache: Path) -> None:
    first = dlc.load(artifact)(images(20, 40))
    (made,) = cache.iterdir()
    made.write_bytes(made.read_bytes()[:-100])

    np.testing.assert_array_equal(dlc.load(artifact)(images(20, 40)), first)


def test_without_a_cache_folder_it_is_compiled_all_the_same(artifact: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")

    assert dlc.load(artifact)(images(20, 40)).shape == (2, 5)


def test_other_weights_of_one_network_have_programs_of_their_own(spec: Any, artifact: Path, tmp_path: Path) -> None:
    path = spec(CONVOLUTIONAL)
    weights = api.fresh_weights(api.one_network(path), seed=5)
    api.compile_to_file(path, tmp_path / "other.dlc", weights=weights)
    session = dlc.compile(path, weights=weights, sizes=[(20, 40)])
    dlc.load(artifact)(images(20, 40))

    np.testing.assert_allclose(dlc.load(tmp_path / "other.dlc")(images(20, 40)), session(images(20, 40)), rtol=1e-5)


def test_an_artifact_holds_programs_for_several_sizes_over_one_copy_of_the_weights(
    spec: Any, artifact: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    several = tmp_path / "several.dlc"
    api.compile_to_file(spec(CONVOLUTIONAL), several, sizes=[(32, 32), (20, 40), (20, 40), (33, 17)])
    session, stored = load_alone(several), load_artifact(several)

    assert session.sizes == (((32, 32),), ((20, 40),), ((33, 17),))
    assert [dict(v.weights) for v in stored.variants] == [{}, {}]
    assert list(stored.weights) == list(load_artifact(artifact).weights)
    alone = dlc.load(artifact)
    for size in [(32, 32), (20, 40), (33, 17)]:
        np.testing.assert_array_equal(session(images(*size)), alone(images(*size)))
    session.save(tmp_path / "again.dlc")
    assert (tmp_path / "again.dlc").read_bytes() == several.read_bytes()


def test_weights_that_only_one_program_reads_come_back(artifact: Path, tmp_path: Path) -> None:
    whole = load_artifact(artifact)
    variant = loading.specialise(whole, ((20, 40),))
    name, *_ = variant.program.weights
    own = {name.name: np.array(whole.weights[name.name]) * 2}
    doubled = tmp_path / "doubled.dlc"
    save_artifact(
        doubled, Artifact(whole.manifest, whole.code, whole.weights, (Variant(variant.program, variant.code, own),))
    )
    back = load_artifact(doubled)

    np.testing.assert_array_equal(back.variants[0].weights[name.name], own[name.name])
    np.testing.assert_array_equal(back.weights[name.name], whole.weights[name.name])
    assert not np.array_equal(dlc.load(doubled)(images(20, 40)), dlc.load(artifact)(images(20, 40)))


def test_the_first_size_given_is_that_of_the_main_program(spec: Any) -> None:
    session = dlc.compile(spec(CONVOLUTIONAL), sizes=[(20, 40)])

    assert session.inputs[0].shape == (-1, 3, 20, 40) and session.sizes == (((20, 40),),)


def test_without_the_compiler_the_sizes_there_are_and_the_command_are_named(artifact: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(dlc.RuntimeFault) as caught:
        dlc.load(artifact)(images(20, 40))

    assert caught.value.code == "R0218" and "it has one for 32x32" in caught.value.message
    assert "dlc compile SPEC --size 32x32 --size 20x40" in caught.value.help


def test_loading_imports_no_compiler_until_another_size_comes(artifact: Path) -> None:
    program = (
        "import sys, numpy as np, dlc; net = dlc.load(sys.argv[1]); net(np.zeros((1, 3, 32, 32), np.float32))\n"
        "print([m for m in sys.modules if m == 'tvm' or m.startswith('dlc.compiler')])"
    )
    done = subprocess.run([sys.executable, "-c", program, artifact], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_layer_that_fixes_the_size_is_named() -> None:
    session = dlc.compile(Path(dlc.__file__).parent / "specs" / "lenet5.dlspec")

    with pytest.raises(dlc.RuntimeFault) as caught:
        session(images(48, 48, channels=1))

    assert caught.value.code == "R0219"
    assert "`c5` (linear) fixes their size, its weight has the shape [120, 400]" in caught.value.message
    assert "[120, 1296]" in caught.value.message and "adaptive_avg_pool" in caught.value.help


def test_images_that_are_too_small_are_a_fault_that_names_the_layer(artifact: Path) -> None:
    session = dlc.load(artifact)

    with pytest.raises(dlc.RuntimeFault, match=r"R0219.*does not take images of 4x64: `conv_2` \(conv\)"):
        session(images(4, 64))
    assert session(images(32, 32)).shape == (2, 5)


@pytest.mark.parametrize("array", [images(32, 32)[:, :2], images(20, 20)[:, :1], images(20, 20)[0]])
def test_what_is_no_image_of_the_network_is_told_so_as_ever(array: np.ndarray, artifact: Path) -> None:
    with pytest.raises(dlc.RuntimeFault, match="R0204"):
        dlc.load(artifact)(array)


def test_the_wrong_type_is_told_at_any_size(artifact: Path) -> None:
    with pytest.raises(dlc.RuntimeFault, match="R0203"):
        dlc.load(artifact)(images(20, 40).astype(np.float64))


def test_a_spec_that_reads_a_height_is_for_its_size_alone(spec: Any) -> None:
    text = "block Mean = avg_pool(in.height)\n\nmodel Net {\n    input image: [3, 8, 8]\n    image -> Mean -> output y\n}\n"
    path = spec(text)

    with pytest.raises(dlc.RuntimeFault, match=r"R0219.*net.dlspec:1:23"):
        dlc.compile(path)(images(16, 16))
    with pytest.raises(dlc.DlcError, match="E0861"):
        dlc.compile(path, sizes=[(16, 16)])


def test_a_network_of_features_has_no_sizes(spec: Any) -> None:
    path = spec("model Net {\n    input x: [3]\n    x -> linear(2) -> output y\n}\n")

    assert dlc.compile(path).sizes == ()
    with pytest.raises(dlc.DlcError, match="E0860"):
        dlc.compile(path, sizes=[(16, 16)])


def test_profiles_are_taken_at_other_sizes_too(artifact: Path) -> None:
    session = dlc.load(artifact)

    assert [s.what for s in session.profile(images(20, 40))] == [s.what for s in session.profile(images(32, 32))]


def test_networks_of_several_images_take_a_size_for_each(spec: Any) -> None:
    text = "model Net {\n    input a: [3, 8, 8]\n    input b: [3, 16, 16]\n"
    path = spec(text + "    concat(a -> global_avg_pool, b -> global_avg_pool) -> fc: linear(2) -> output y\n}\n")
    session = dlc.compile(path)
    a, b = images(5, 7), images(9, 11)
    weights = api.fresh_weights(api.one_network(path))
    means = np.concatenate([a.mean((2, 3)), b.mean((2, 3))], axis=1)

    np.testing.assert_allclose(session(a, b), means @ weights["fc.weight"].T + weights["fc.bias"], atol=1e-5)
    assert session.sizes[1] == ((5, 7), (9, 11))


def test_the_commands_take_sizes(
    spec: Any, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    model, picture = tmp_path / "m.dlc", tmp_path / "x.npy"
    command = ["dlc", "compile", str(spec(CONVOLUTIONAL)), "-o", str(model), "--size", "32", "--size", "20x40"]
    monkeypatch.setattr(sys, "argv", command)
    main()
    np.save(picture, images(20, 40))
    monkeypatch.setattr(sys, "argv", ["dlc", "run", str(model), str(picture), "--top", "1"])
    main()

    assert load_alone(model).sizes == (((32, 32),), ((20, 40),))
    assert "sample 1" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["0x3", "axb", "3x", "-3", "3x3x3"])
def test_what_is_no_size_is_wrong_usage(text: str, spec: Any, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["dlc", "compile", str(spec(CONVOLUTIONAL)), f"--size={text}"])

    with pytest.raises(SystemExit) as caught:
        main()

    assert caught.value.code == 2 and "224x320" in capsys.readouterr().err


def test_a_picture_is_resized_to_the_trained_size_unless_another_is_asked_for(artifact: Path, tmp_path: Path) -> None:
    whole = load_artifact(artifact)
    rule = Preprocessing(3, 32, 32, (0.5,) * 3, (0.25,) * 3)
    save_artifact(artifact, replace(whole, manifest=msgspec.structs.replace(whole.manifest, preprocessing=rule)))
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    session = dlc.load(artifact)

    for size in (None, (20, 40)):
        (found,) = measuring.run(artifact, tmp_path / "photo.png", size=size)
        scores = session(session.preprocess(pixels, size))[0]
        assert [entry["index"] for entry in found] == list(np.argsort(-scores, kind="stable"))
