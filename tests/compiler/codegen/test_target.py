"""Targets: names checked without the compiler, facts of processors."""

import subprocess
import sys

import pytest

from dlc.compiler.codegen.target import TARGETS, CpuTarget, CudaTarget, Target
from dlc.compiler.errors import DlcError


def test_plain_names_are_checked_without_importing_tvm():
    program = (
        "import sys; from dlc.compiler.codegen.target import Target\n"
        "for n in ('cpu', 'x86-64-v3', 'x86-64-v4', 'aarch64', 'cuda', 'cuda:sm_90'): Target.parse(n)\n"
        "assert 'tvm' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("cuda:sm_91", "cuda:sm_90"),
        ("cpu:znvr4", "cpu:znver4"),
        ("x86-64-v5", "x86-64-v4"),
        ("arm64", "aarch64"),
        ("CPU", "one of"),
        ("", "one of"),
        ("cpu:x; rm -rf", "cpu:"),
    ],
)
def test_unknown_names_are_errors_with_a_suggestion(name, suggestion):
    with pytest.raises(DlcError) as caught:
        Target.parse(name)

    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E0850"
    assert repr(name) in diagnostic.message
    assert suggestion in diagnostic.help


@pytest.mark.parametrize(
    ("name", "lanes", "registers", "machine"),
    [
        ("x86-64-v3", 8, 16, "x86_64"),
        ("x86-64-v4", 16, 32, "x86_64"),
        ("cpu:znver4", 16, 32, "x86_64"),
        ("cpu:x86-64-v2", 4, 16, "x86_64"),
        ("aarch64", 4, 32, "aarch64"),
        ("cpu:neoverse-n1", 4, 32, "aarch64"),
    ],
)
def test_vector_width_and_registers_follow_the_name(name, lanes, registers, machine):
    target = Target.parse(name)

    assert isinstance(target, CpuTarget)
    assert (target.lanes, target.registers, target.mtriple.split("-")[0]) == (lanes, registers, machine)
    assert not target.is_host


def test_this_machine_is_a_target():
    target = Target.parse("cpu")

    assert isinstance(target, CpuTarget)
    assert target.is_host
    assert target.mcpu
    assert target.cores >= 1
    assert 8 * 1024 <= target.l1 <= target.l2


def test_the_features_that_code_may_use_are_told():
    assert Target.parse("x86-64-v3").supported(("avx2", "avx512f", "fma")) == ("avx2", "fma")


def test_cuda_names_its_architecture():
    target = Target.parse("cuda:sm_80")

    assert isinstance(target, CudaTarget)
    assert target.arch == "sm_80"
    assert target.lanes == 1


def test_cuda_means_every_gpu_from_compute_capability_8_on():
    target = Target.parse("cuda")

    assert target.is_portable
    assert target.arch == "sm_80" == target.architectures[0]
    assert not Target.parse("cuda:sm_90").is_portable


def test_every_listed_target_is_described():
    assert all(TARGETS.values())
