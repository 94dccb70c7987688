"""Other processors: every family of networks compiled for AVX2 and run, and compiled for 64-bit ARM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc import api
from dlc.compiler.build import build_inference
from dlc.compiler.codegen.linker import linker
from dlc.compiler.codegen.object_code import compile_functions
from dlc.compiler.codegen.target import CpuTarget, Target
from dlc.compiler.errors import DlcError
from dlc.compiler.interpret import interpret
from dlc.compiler.network import Network
from dlc.compiler.pipeline import compile_inference
from dlc.runtime.device import cpu_features

FAMILIES = {  # networks as shipped, at a size at which numpy computes them quickly
    "lenet5": "LeNet5()",
    "alexnet": "AlexNet(size=63)",
    "vgg": "Vgg([1, 1, 2, 2, 2], size=32, hidden=64)",
    "googlenet": "GoogLeNet(size=64)",
    "resnet": "ResNet(Basic, [1, 1, 1, 1], size=64)",
    "resnet_cifar": "ResNet20",
    "lenet5_1998": "LeNet5",
    "mlp": "Mlp()",
}
EM_AARCH64 = 183


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path: Path) -> Network:
    spec = tmp_path / "spec.dlspec"
    blocks = 'import "blocks/residual.dlspec"\n' if request.param == "resnet" else ""
    spec.write_text(
        f'{blocks}import "{request.param}.dlspec" as family\n\nmodel Model = family.{FAMILIES[request.param]}\n'
    )
    return api.one_network(spec)


def images(network: Network) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {i.name: generator.standard_normal((1, *i.shape), dtype=np.float32) for i in network.inputs}


def machine(elf: bytes) -> int:
    """The processor that an ELF file is for."""
    assert elf[:4] == b"\x7fELF"
    return int.from_bytes(elf[18:20], "little")


@pytest.mark.skipif(
    not {"avx2", "fma"} <= (cpu_features() or frozenset()), reason="code for AVX2 needs a processor that has it"
)
def test_code_for_avx2_computes_what_the_reference_does(family: Network) -> None:
    weights, feeds = api.fresh_weights(family), images(family)
    session = api.compile_network(family, target="x86-64-v3", weights=weights, batch=1)

    exact = {k: a.astype(np.float64) for k, a in {**weights, **feeds}.items()}
    expected, _ = interpret(build_inference(family), exact)
    (name,) = expected
    error = np.abs(session(**feeds) - expected[name]).max() / np.abs(expected[name]).max()
    assert error < 1e-4


def test_code_for_arm_can_be_made_without_such_a_machine(
    family: Network, tmp_path: Path, without_linker: Callable[[CpuTarget], bool]
) -> None:
    target: Any = Target.parse("aarch64")
    compiled, _ = compile_inference(family, api.fresh_weights(family), target, batch=1)
    if without_linker(target):
        for name, executable in compile_functions(compiled.functions, target, lambda done: None).items():
            path = tmp_path / f"{name}.o"
            executable.mod.write_to_file(str(path))
            assert machine(path.read_bytes()) == EM_AARCH64
    else:
        assert machine(compiled.library()) == EM_AARCH64


@pytest.fixture
def without_linker() -> Callable[[CpuTarget], bool]:
    """Whether nothing here links for a target; the package ziglang would."""

    def missing(target: CpuTarget) -> bool:
        try:
            linker(target)
        except DlcError:
            return True
        return False

    return missing
