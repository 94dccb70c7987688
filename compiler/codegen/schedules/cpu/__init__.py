"""Schedules for processors. The rules are tried in order; every kernel that fusing makes is taken by one of them."""

from __future__ import annotations

from dlc.compiler.codegen.schedules.base import ScheduleRule


def rules() -> tuple[ScheduleRule, ...]:
    """The rules for a processor, in the order in which they are tried."""
    from dlc.compiler.codegen.schedules.cpu.convolution import ConvolutionRule
    from dlc.compiler.codegen.schedules.cpu.elementwise import ElementwiseRule
    from dlc.compiler.codegen.schedules.cpu.linear import LinearRule, LinearWeightGradientRule
    from dlc.compiler.codegen.schedules.cpu.linear_input_gradient import LinearInputGradientRule
    from dlc.compiler.codegen.schedules.cpu.paired import PairedRule
    from dlc.compiler.codegen.schedules.cpu.pairs import (
        PairedGradientRule,
        PairPixelsRule,
        PairWeightRule,
        PlanesRule,
    )
    from dlc.compiler.codegen.schedules.cpu.pooling import PoolRule
    from dlc.compiler.codegen.schedules.cpu.reduction import ReductionRule
    from dlc.compiler.codegen.schedules.cpu.warp import WarpRule
    from dlc.compiler.codegen.schedules.cpu.weight_gradient import ConvolutionWeightGradientRule
    from dlc.compiler.codegen.schedules.cpu.winograd import WinogradRule, WinogradWeightsRule
    from dlc.compiler.codegen.schedules.cpu.winograd_gradient import WinogradGradientRule

    return (
        ConvolutionRule(),
        PairedRule(),
        PairedGradientRule(),
        PairPixelsRule(),
        PairWeightRule(),
        PlanesRule(),
        WinogradRule(),
        WinogradWeightsRule(),
        WinogradGradientRule(),
        ConvolutionWeightGradientRule(),
        LinearRule(),
        LinearInputGradientRule(),
        LinearWeightGradientRule(),
        PoolRule(),
        WarpRule(),
        ReductionRule(),
        ElementwiseRule(),
    )
