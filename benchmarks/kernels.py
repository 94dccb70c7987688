"""Kernels of common networks on this machine: time, GFLOP/s and share of the measured peak of its cores.

Usage: python benchmarks/kernels.py [--threads N] [--repeats N] [--gradients] [WORD …]; words select rows by name.
Times are the least of many runs; multiplications and additions count as two operations.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SHAPES: tuple[tuple[str, int, int, int, int, int, int, int, int], ...] = (
    # name, batch, channels in and out, height, width, kernel, stride, padding
    ("lenet c1", 1, 1, 6, 32, 32, 5, 1, 0),
    ("lenet c3", 1, 6, 16, 14, 14, 5, 1, 0),
    ("lenet c1", 64, 1, 6, 32, 32, 5, 1, 0),
    ("lenet c3", 64, 6, 16, 14, 14, 5, 1, 0),
    ("resnet stem", 1, 3, 64, 224, 224, 7, 2, 3),
    ("resnet 3x3", 1, 64, 64, 56, 56, 3, 1, 1),
    ("resnet 3x3", 1, 128, 128, 28, 28, 3, 1, 1),
    ("resnet 3x3", 1, 256, 256, 14, 14, 3, 1, 1),
    ("resnet 3x3", 1, 512, 512, 7, 7, 3, 1, 1),
    ("resnet 3x3 stride 2", 1, 64, 128, 56, 56, 3, 2, 1),
    ("resnet 3x3 stride 2", 1, 128, 256, 28, 28, 3, 2, 1),
    ("resnet 3x3 stride 2", 1, 256, 512, 14, 14, 3, 2, 1),
    ("resnet 1x1 stride 2", 1, 64, 128, 56, 56, 1, 2, 0),
    ("resnet 1x1", 1, 64, 256, 56, 56, 1, 1, 0),
    ("resnet 1x1", 1, 256, 64, 56, 56, 1, 1, 0),
    ("resnet 1x1", 1, 1024, 256, 14, 14, 1, 1, 0),
    ("resnet 1x1", 1, 2048, 512, 7, 7, 1, 1, 0),
    ("resnet 1x1", 1, 512, 2048, 7, 7, 1, 1, 0),
    ("vgg first", 1, 3, 64, 224, 224, 3, 1, 1),
    ("alexnet 13x13", 1, 192, 384, 13, 13, 3, 1, 1),
    ("alexnet 27x27", 1, 64, 192, 27, 27, 5, 1, 2),
    ("resnet 3x3", 8, 64, 64, 56, 56, 3, 1, 1),
    ("resnet 3x3", 8, 256, 256, 14, 14, 3, 1, 1),
    ("resnet 3x3", 8, 512, 512, 7, 7, 3, 1, 1),
)

LINEAR = ((1, 400, 120), (1, 9216, 4096), (64, 400, 120), (64, 4096, 1000), (64, 9216, 4096))
"""Samples, inputs, outputs."""


def least(function: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of `repeats` calls."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def kernel(op: Any, types: tuple[Any, ...], target: Any) -> Callable[[], Any]:
    """A call of the compiled op on random operands."""
    import tvm
    from tvm.s_tir import Schedule

    from dlc.compiler.codegen.build import CpuCode
    from dlc.compiler.codegen.function import blocks_of, lower
    from dlc.compiler.codegen.scheduling import apply_rule
    from dlc.compiler.ir import Input, apply, source
    from dlc.compiler.passes.fuse import Kernel

    value = apply(op, *(source(Input(f"x{i}", t)) for i, t in enumerate(types)))
    schedule = Schedule(lower(Kernel((value,), (value,), value), None, target))
    if apply_rule(schedule, blocks_of(schedule), target) is None:
        raise SystemExit(f"no rule takes {op}")
    function = CpuCode({"kernel": schedule.mod["main"]}, target).function("kernel")
    generator = np.random.default_rng(0)
    shapes = [t.shape for t in (*types, value.type)]
    arrays = [tvm.runtime.tensor(generator.standard_normal(s).astype(np.float32)) for s in shapes]
    return lambda: function(*arrays)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--gradients", action="store_true", help="the gradients by input and weight too")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(options.threads)
    os.environ["TVM_BIND_THREADS"] = "0"

    from dlc.compiler.codegen.peaks import machine_peaks
    from dlc.compiler.codegen.schedules.cpu.tiles import weight_block
    from dlc.compiler.codegen.target import CpuTarget, Target
    from dlc.compiler.ir import TensorType
    from dlc.compiler.ops import (
        Conv2d,
        Conv2dInputGradient,
        Conv2dWeightGradient,
        Linear,
        LinearInputGradient,
        LinearWeightGradient,
    )

    target = Target.parse("cpu")
    assert isinstance(target, CpuTarget)
    most = machine_peaks(options.threads).flops / 1e9
    print(f"{target.mcpu}, {options.threads} threads, peak {most:.0f} GFLOP/s")

    def row(name: str, op: Any, types: tuple[Any, ...], flops: float) -> None:
        if options.words and not any(w in name for w in options.words):
            return
        seconds = least(kernel(op, types, target), options.repeats)
        rate = flops / seconds / 1e9
        print(f"{name:52s} {seconds * 1e6:10.1f} us {rate:7.0f} GFLOP/s {rate / most * 100:5.0f} %", flush=True)

    for name, n, inputs, outputs, height, width, k, s, p in SHAPES:
        attributes = {"channels": outputs, "kernel": (k, k), "stride": (s, s), "padding": (p, p, p, p)}
        op = Conv2d(**attributes, block=weight_block(target, outputs))  # type: ignore[arg-type]  # a mapping of fields
        x, weight = TensorType((n, height, width, inputs)), TensorType(op.weight_shape(inputs))
        y = op.infer(x, weight)
        flops = 2.0 * n * outputs * inputs * k * k * int(y.shape[1]) * int(y.shape[2])  # type: ignore[arg-type]
        what = f"{name}, {n} x {inputs}->{outputs}, {height}x{width}"
        row(what, op, (x, weight), flops)
        if options.gradients:
            by_input = Conv2dInputGradient(**op.attributes(), input_size=(height, width, inputs))
            row(what + " by input", by_input, (y, weight), flops)
            row(what + " by weight", Conv2dWeightGradient(**op.attributes(), in_channels=inputs), (x, y), flops)
    for n, inputs, outputs in LINEAR:
        linear = Linear(outputs, weight_block(target, outputs))
        x, weight = TensorType((n, inputs)), TensorType(linear.weight_shape(inputs))
        y, flops = linear.infer(x, weight), 2.0 * n * inputs * outputs
        row(f"linear, {n} x {inputs}->{outputs}", linear, (x, weight), flops)
        if options.gradients:
            turned = LinearInputGradient(outputs, linear.block, features_in=inputs)
            row(f"linear, {n} x {inputs}->{outputs} by input", turned, (y, weight), flops)
            by_weight = LinearWeightGradient(outputs, linear.block)
            row(f"linear, {n} x {inputs}->{outputs} by weight", by_weight, (x, y), flops)


if __name__ == "__main__":
    main()
