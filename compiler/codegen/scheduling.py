"""One kernel's function: lowered through its ops' computes, its loops given by the first schedule rule that takes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tvm.s_tir import Schedule

from dlc.compiler.choices import Cut, OneCore
from dlc.compiler.codegen.divisions import guard_divisions
from dlc.compiler.codegen.emit import Call
from dlc.compiler.codegen.function import blocks_of, lower, on_one_core, share_buffers
from dlc.compiler.codegen.gathering import insert_gathers
from dlc.compiler.codegen.panels import insert_panels
from dlc.compiler.codegen.parts import place
from dlc.compiler.codegen.prefetch import insert_prefetches
from dlc.compiler.codegen.schedules.base import KernelBlocks, ScheduleRule
from dlc.compiler.codegen.schedules.cpu import rules
from dlc.compiler.codegen.target import CpuTarget, CudaTarget
from dlc.compiler.codegen.turning import insert_turns
from dlc.compiler.codegen.unchecked import UncheckedSchedule


@dataclass(frozen=True)
class Scheduled:
    """A scheduled PrimFunc, the rule that took it, and whether the rule asks for a variant for a batch of one."""

    function: Any
    rule: str
    specializes_batch_one: bool = False


def schedule_kernel(
    call: Call, name: str, batch: int | None, target: CpuTarget | CudaTarget, cut: Cut | None = None
) -> Scheduled:
    """The function of a kernel, cut as the model says, or by `cut`. `name` is for messages."""
    if isinstance(target, CudaTarget):
        from dlc.compiler.codegen.schedules.cuda import schedule_function
        from dlc.compiler.codegen.schedules.cuda.product import schedule_product

        product = schedule_product(call, batch, target)
        if product is not None:
            shared = share_buffers(guard_divisions(product.function), call.shared)
            return Scheduled(shared, product.rule, product.specializes_batch_one)
        function = place(lower(call.kernel, batch, target), call.parts)
        scheduled, rule_name = schedule_function(function, target)
        return Scheduled(share_buffers(guard_divisions(scheduled), call.shared), rule_name)
    schedule = UncheckedSchedule(place(lower(call.kernel, batch, target, cut), call.parts))
    blocks = replace(blocks_of(schedule), cut=cut)
    rule = apply_rule(schedule, blocks, target)
    if rule is None:
        raise AssertionError(
            f"no schedule rule takes {name} (anchor {blocks.kind}) of layer {call.kernel.label or '?'}: "
            f"{call.kernel.what}\n{schedule.mod['main'].script()}"
        )
    function = insert_gathers(insert_prefetches(guard_divisions(schedule.mod["main"])))
    function = insert_turns(insert_panels(function, target))
    if isinstance(cut, OneCore):
        function = on_one_core(function)
    return Scheduled(share_buffers(function, call.shared), type(rule).__name__, rule.differs_alone(schedule))


def apply_rule(schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> ScheduleRule | None:
    """Schedules a kernel by the first rule that takes it; None where none does."""
    for rule in rules():
        if blocks.kind in rule.anchors and rule.apply(schedule, blocks, target):
            return rule
    return None
