"""The CUDA C++ of a product: its constants as a struct, and the device code of this folder that is made for it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from dlc.compiler.codegen.schedules.cuda.problem import Problem
from dlc.compiler.codegen.schedules.cuda.tilings import Tiling

FILES = ("instructions.cuh", "operands.cuh", "product.cuh")
"""The device code, in the order in which it is compiled."""


@cache
def device_code() -> str:
    """The device code that all products share; it takes no room twice, however often it is given."""
    return "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in FILES)


def product_function(problem: Problem, tiling: Tiling) -> tuple[str, str]:
    """The name of the device function that computes one tile of a product, and the source that defines it."""
    constants = ", ".join(f"{name} = {int(value)}" for name, value in _constants(problem, tiling).items())
    element = "float" if problem.dtype == "float32" else "unsigned short"
    body = f"using Element = {element}; static constexpr int {constants};"
    digest = hashlib.sha256(body.encode()).hexdigest()[:12]
    name = f"dlc_product_{digest}"
    parameters = "void* shared, const void* a, const void* b, int batch, int block, int piece, int split"
    source = (
        f"#ifndef DLC_{digest}\n#define DLC_{digest}\nstruct Product_{digest} {{ {body} }};\n"
        f"__device__ __forceinline__ void {name}({parameters}) {{\n"
        f"  dlc::product<Product_{digest}>(shared, a, b, batch, block, piece, split);\n}}\n#endif\n"
    )
    return name, device_code() + source


def _constants(problem: Problem, tiling: Tiling) -> dict[str, int]:
    vector_a, vector_b = problem.vectors
    return {
        "kind": problem.kind.value,
        "units": problem.units.value,
        "n": problem.n,
        "depth": problem.channels,
        "inputs": problem.inputs,
        "outputs": problem.outputs,
        "groups": problem.groups,
        "kernel_rows": problem.kernel[0],
        "kernel_columns": problem.kernel[1],
        "source_rows": problem.source[0],
        "source_columns": problem.source[1],
        "source_channels": problem.source[2],
        "grid_rows": problem.grid[0],
        "grid_columns": problem.grid[1],
        "move_rows": problem.move[0],
        "move_columns": problem.move[1],
        "shift_rows": problem.shift[0],
        "shift_columns": problem.shift[1],
        "step_rows": problem.step[0],
        "step_columns": problem.step[1],
        "phase_rows": problem.phases[0],
        "phase_columns": problem.phases[1],
        "bounded": problem.is_bounded,
        "pointwise": problem.is_pointwise,
        "canonical": problem.canonical,
        "start_a": problem.start_a,
        "start_b": problem.start_b,
        "upstream_channels": problem.upstream,
        "vector_a": vector_a,
        "vector_b": vector_b,
        "tile_rows": tiling.rows,
        "tile_columns": tiling.columns,
        "tile_depth": tiling.depth,
        "warps_down": tiling.down,
        "warps_across": tiling.across,
        "threads": tiling.threads,
        "stages": tiling.stages,
        "splits": tiling.splits,
    }
