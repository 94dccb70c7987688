"""Code generation: graphs to machine code and programs. The only folder that imports tvm, and only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlc.compiler.codegen.compiled import Compiled, compile_graph

__all__ = ["Compiled", "compile_graph"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dlc.runtime.library import without_torch

    with without_torch():
        from dlc.compiler.codegen import compiled  # importing tvm takes a second: target names are checked without it

    return getattr(compiled, name)
