"""Real kernels for the runtime's tests: tiny TE functions, compiled once per test process into one shared object.

The model `pair` takes images [N, 3, 8, 16] and a shift [N, 384] and gives

    sum = relu(2 * image + bias) + shift        (plus 1000 where its variant for a batch of one ran)
    difference = relu(2 * image + bias) - shift

and `train` takes a rate and moves its weight: w -= rate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dlc.runtime.arrays import aligned_empty
from dlc.runtime.artifact import Artifact, Manifest, TargetSpec
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.device import machine
from dlc.runtime.executor import Executor
from dlc.runtime.library import load_code
from dlc.runtime.plan import BATCH, Program, Slot, Step, TensorSpec, WeightSpec

IMAGE = (BATCH, 3, 8, 16)
FLAT = (BATCH, 384)


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The shared object with all kernels."""
    import tvm
    from tvm import s_tir, te, tirx

    from dlc.compiler.codegen.driver import DRIVER, driver

    n = te.var("n", "int64")
    image, flat, zero = (n, *IMAGE[1:]), (n, *FLAT[1:]), tirx.const(0, "float32")

    def kernel(name: str, shapes: list[tuple[Any, ...]], body: Callable[..., Any], parallel: bool = False) -> Any:
        arguments = [te.placeholder(shape, "float32", name=f"a{i}") for i, shape in enumerate(shapes)]
        shape = shapes[0]
        result = te.compute(shape, lambda *i: body(i, *arguments), name="out")
        schedule = s_tir.Schedule(te.create_prim_func([*arguments, result], index_dtype_override="int64"))
        loops = schedule.get_loops(schedule.get_sblock("out"))
        if parallel:
            schedule.parallel(loops[0])
        schedule.vectorize(schedule.split(loops[-1], [None, 8])[1])
        return schedule.mod["main"].with_attr("global_symbol", name)

    kernels = [
        kernel("double", [image], lambda i, a: a[i] + a[i], parallel=True),
        kernel("bias", [image, (16,)], lambda i, a, b: a[i] + b[i[3]]),
        kernel("relu", [flat], lambda i, a: tirx.max(a[i], zero)),
        kernel("add", [flat, flat], lambda i, a, b: a[i] + b[i], parallel=True),
        kernel("add_one", [(1, 384), (1, 384)], lambda i, a, b: a[i] + b[i] + tirx.const(1000, "float32")),
        kernel("subtract", [flat, flat], lambda i, a, b: a[i] - b[i]),
        kernel("step", [(16,), ()], lambda i, w, r: w[i] - r()),
    ]
    target = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3" if machine() == "x86_64" else "generic"})
    path = tmp_path_factory.mktemp("code") / "kernels.so"
    module = tvm.IRModule({str(k.attrs["global_symbol"]): k for k in kernels} | {DRIVER: driver()})
    tvm.tirx.build(module, target=target).export_library(str(path))
    return path.read_bytes()


def pair_program(batch: int = BATCH, driver: str = "dlc_run_steps") -> Program:
    return Program(
        inputs=(TensorSpec("image", IMAGE, "float32"), TensorSpec("shift", FLAT, "float32")),
        outputs=(TensorSpec("sum", FLAT, "float32"), TensorSpec("difference", FLAT, "float32")),
        weights=(WeightSpec("bias", (16,), "float32"),),
        slots=(
            Slot(IMAGE, "float32", "input", "image"),
            Slot(IMAGE, "float32", "arena", storage=0),
            Slot((16,), "float32", "weight", "bias"),
            Slot(IMAGE, "float32", "arena", storage=1),
            Slot(FLAT, "float32", "arena", storage=1),
            Slot(FLAT, "float32", "arena", storage=2),
            Slot(FLAT, "float32", "input", "shift"),
            Slot(FLAT, "float32", "output", "sum"),
            Slot(FLAT, "float32", "output", "difference"),
        ),
        steps=(
            Step("double", (0, 1), 1, layer="first", what="double", flops=384),
            Step("bias", (1, 2, 3), 1, layer="first", what="bias", flops=384),
            Step("relu", (4, 5), 1, layer="second", what="relu", flops_fixed=7),
            Step("add", (5, 6, 7), 1, kernel_one="add_one", layer="third", what="add", flops=384),
            Step("subtract", (5, 6, 8), 1, layer="third", what="subtract", flops=384),
        ),
        batch=batch,
        driver=driver,
    )


def train_program() -> Program:
    return Program(
        inputs=(TensorSpec("rate", (), "float32"),),
        outputs=(),
        weights=(WeightSpec("w", (16,), "float32"),),
        slots=(Slot((16,), "float32", "weight", "w"), Slot((), "float32", "input", "rate")),
        steps=(Step("step", (0, 1, 0), 1),),
    )


def expected(image: np.ndarray, shift: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hidden = np.maximum(2 * image + bias, 0).reshape(len(image), -1).astype(np.float32)
    return hidden + shift + (1000 if len(image) == 1 else 0), hidden - shift


@pytest.fixture
def bias() -> np.ndarray:
    array = aligned_empty((16,), "float32")
    array[...] = np.linspace(-1, 1, 16)
    return array


@pytest.fixture(params=["dlc_run_steps", ""], ids=["driver", "python"])
def pair(code: bytes, bias: np.ndarray, request: pytest.FixtureRequest) -> Executor:
    return Executor(pair_program(driver=request.param), load_code(code), {"bias": bias})


@pytest.fixture
def artifact(code: bytes, bias: np.ndarray) -> Artifact:
    manifest = Manifest(
        "Pair",
        pair_program(),
        TargetSpec("x86-64-v3", f"{machine()}-linux-gnu", "x86-64-v3"),
        classes=("cat", "dog"),
        preprocessing=Preprocessing(3, 8, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        versions={"dlc": "0.1.0"},
    )
    return Artifact(manifest, code, {"bias": bias})


def samples(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = (count, *IMAGE[1:]), (count, *FLAT[1:])
    return tuple(random.standard_normal(s, np.float32) for s in shapes)  # type: ignore[return-value]
