"""Fresh copies of a stage: the same layers with weights of their own, as `repeat(n, stage)` wants them."""

from __future__ import annotations

from typing import Any

from dlc.compiler.frontend.values import (
    BlockStage,
    ChainStage,
    ForkStage,
    LabelledStage,
    LayerStage,
    NumberedStage,
    ResidualStage,
    Stage,
)


def copy_stage(stage: Stage, made: dict[Stage, Stage] | None = None) -> Stage:
    """A copy of a stage. What the stage shares inside, the copy shares inside; with the stage it shares nothing."""
    made = {} if made is None else made
    if stage not in made:
        made[stage] = _copy(stage, made)
    return made[stage]


def count_stages(stage: Stage, enough: int) -> int:
    """How many stages a stage is made of, itself included; counting ends at `enough`."""
    count, stack = 0, [stage]
    while stack and count < enough:
        count += 1
        stack.extend(parts(stack.pop()))
    return count


def parts(stage: Stage) -> tuple[Stage, ...]:
    """The stages that a stage is made of."""
    match stage:
        case ChainStage() | NumberedStage():
            return stage.stages
        case ForkStage():
            return stage.branches
        case ResidualStage():
            return (stage.body, stage.shortcut)
        case LabelledStage():
            return (stage.stage,)
        case BlockStage():
            return tuple(v for v in stage.arguments.values() if isinstance(v, Stage))
    return ()


def _copy(stage: Stage, made: dict[Stage, Stage]) -> Stage:
    match stage:
        case LayerStage():
            return LayerStage(stage.span, stage.layer)
        case ChainStage():
            return ChainStage(stage.span, tuple(copy_stage(s, made) for s in stage.stages))
        case ForkStage():
            return ForkStage(stage.span, tuple(copy_stage(s, made) for s in stage.branches))
        case ResidualStage():
            return ResidualStage(stage.span, copy_stage(stage.body, made), copy_stage(stage.shortcut, made))
        case NumberedStage():
            return NumberedStage(stage.span, tuple(copy_stage(s, made) for s in stage.stages), stage.keyword)
        case LabelledStage():
            return LabelledStage(stage.span, stage.label, copy_stage(stage.stage, made))
        case BlockStage():
            arguments = {name: _copy_value(value, made) for name, value in stage.arguments.items()}
            return BlockStage(stage.span, stage.block, arguments)
    return stage


def _copy_value(value: Any, made: dict[Stage, Stage]) -> Any:
    if isinstance(value, Stage):
        return copy_stage(value, made)
    if isinstance(value, (list, tuple)):
        return type(value)(_copy_value(v, made) for v in value)
    return value
