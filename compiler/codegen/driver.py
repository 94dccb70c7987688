"""The driver: a function in every artifact that runs a whole program's kernels in one call.

Without it the runtime calls kernels one by one from Python, and lets go of Python's global lock around each; when another
Python thread is busy (a data loader), getting it back can cost milliseconds every time. See `dlc.runtime.executor` for the
table that it reads.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from dlc.compiler.codegen.build import DRIVER

_CALL_ALL = """
declare i32 @TVMFFIFunctionCall(ptr, ptr, i32, ptr)

define i64 @dlc_call_all(i64 %address, i64 %count) {
entry:
  %result = alloca {i64, i64}, align 16
  %table = inttoptr i64 %address to ptr
  br label %check
check:
  %i = phi i64 [ 0, %entry ], [ %next, %call ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %call, label %done
call:
  %step = getelementptr {ptr, ptr, i64}, ptr %table, i64 %i
  %kernel = load ptr, ptr %step, align 8
  %arguments.at = getelementptr i8, ptr %step, i64 8
  %arguments = load ptr, ptr %arguments.at, align 8
  %size.at = getelementptr i8, ptr %step, i64 16
  %size = load i64, ptr %size.at, align 8
  %size.32 = trunc i64 %size to i32
  store {i64, i64} zeroinitializer, ptr %result, align 16
  %status = call i32 @TVMFFIFunctionCall(ptr %kernel, ptr %arguments, i32 %size.32, ptr %result)
  %next = add i64 %i, 1
  %fine = icmp eq i32 %status, 0
  br i1 %fine, label %check, label %failed
failed:
  ret i64 %i
done:
  ret i64 -1
}
"""


def driver() -> Any:
    """The driver as a PrimFunc for the module: (table's address, steps) -> the first step that failed, or -1."""

    @T.prim_func(s_tir=True, check_well_formed=False)  # type: ignore[untyped-decorator]  # tvm has no types
    def run_steps(table: T.int64, count: T.int64) -> T.int64:
        T.func_attr({"global_symbol": DRIVER})
        T.attr(0, "pragma_import_llvm", _CALL_ALL)
        return T.call_extern("int64", "dlc_call_all", table, count)

    return run_steps
