"""Runs lambdas: `i => block(channels, stride if i == 0 else 1)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dlc.compiler.frontend.environment import Environment
from dlc.compiler.frontend.values import LambdaFunction
from dlc.compiler.source import Span

if TYPE_CHECKING:
    from dlc.compiler.frontend.evaluator import Evaluator


def run_lambda(evaluator: Evaluator, function: LambdaFunction, values: Sequence[Any], span: Span) -> Any:
    """The value of a lambda for these arguments."""
    wanted = len(function.parameters)
    if len(values) != wanted:
        return evaluator.error(
            "E0503" if len(values) > wanted else "E0502",
            f"this function takes {wanted} argument{'s' * (wanted != 1)}, not {len(values)}", span,
            notes=(f"it is `{' '.join(function.span.text.split())[:60]}`, line {function.span.line}",),
        )  # fmt: skip
    return evaluator.evaluate(
        function.body, Environment(function.environment, dict(zip(function.parameters, values, strict=True)))
    )
