"""Arguments to parameters: which goes where, what is missing, doubled or unknown, and whether each has the right type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from dlc.compiler.errors import DlcError
from dlc.compiler.frontend import ast
from dlc.compiler.frontend.convert import Mismatch, convert, describe, refusal, words_of
from dlc.compiler.frontend.operators import is_number
from dlc.compiler.frontend.report import Report
from dlc.compiler.frontend.signatures import FormalParameter, Signature
from dlc.compiler.frontend.suggestions import did_you_mean, listing
from dlc.compiler.frontend.values import POISON, Measure, Poison
from dlc.compiler.ir import ShapeError
from dlc.compiler.source import Span
from dlc.runtime.arguments import ArgumentError

T = TypeVar("T")
ANGLES = ("degree", "angle", "shear", "rotat")  # parameters whose names say that they are angles
PREDICATES = ("must", "may", "holds", "is", "needs", "has", "does")  # how a sentence starts that follows its subject


def bind(
    report: Report, signature: Signature, arguments: Sequence[ast.Argument], place: Span
) -> tuple[dict[str, ast.Argument], bool]:
    """Each argument by the name of its parameter, and whether all is well; what is wrong is reported.

    Positional arguments fill the parameters in order; each parameter is given at most once; all required ones are given.
    """
    bound: dict[str, ast.Argument] = {}
    good, position, named = True, 0, False
    for argument in arguments:
        if argument.name is None:
            if named:
                report.error(
                    "E0508", "a positional argument stands behind a named one", argument.span,
                    help="give it its name, or move it before the named ones",
                )  # fmt: skip
                good = False
                continue
            if position >= len(signature.parameters):
                report.error(
                    "E0503", _too_many(signature, arguments), argument.span, "one too many",
                    help=usage(signature),
                )  # fmt: skip
                return bound, False
            name = signature.parameters[position].name
            position += 1
        else:
            named, name = True, argument.name.name
            if signature.find(name) is None:
                report.error(
                    "E0501", f"{signature.kind} `{signature.name}` has no argument `{name}`", argument.name.span,
                    help=did_you_mean(name, signature.names) or usage(signature),
                )  # fmt: skip
                good = False
                continue
        if name in bound:
            report.error(
                "E0504", f"`{name}` of `{signature.name}` is given twice", (argument.name or argument).span,
                f"the first is `{_short(bound[name].value.span.text)}`", help="keep one of the two",
            )  # fmt: skip
            good = False
            continue
        bound[name] = argument
    missing = [p.name for p in signature.parameters if p.required and p.name not in bound]
    if missing and good:
        report.error(
            "E0502", f"{signature.kind} `{signature.name}` needs {listing(missing)}", place, help=usage(signature)
        )
        good = False
    return bound, good


def _too_many(signature: Signature, arguments: Sequence[ast.Argument]) -> str:
    given = sum(a.name is None for a in arguments)
    most = len(signature.parameters)
    if not most:
        return f"{signature.kind} `{signature.name}` takes no arguments"
    return f"{signature.kind} `{signature.name}` takes {most} argument{'s' * (most > 1)} at most, not {given}"


def usage(signature: Signature) -> str:
    """How a call is written: "conv(channels, kernel, stride=…, pad=…)"."""
    if not signature.parameters:
        return f"write `{signature.name}`"
    shown = [p.name if p.required else f"{p.name}=…" for p in signature.parameters]
    return f"it is called as {signature.name}({', '.join(shown)})"


def typed(report: Report, value: Any, parameter: FormalParameter, owner: str, span: Span) -> tuple[Any, bool]:
    """The value as the parameter wants it, and whether it is one; a wrong type or unit is reported."""
    what = f"`{parameter.name}` of `{owner}`"
    if isinstance(value, Measure) and value.unit == "deg" and not any(word in parameter.name for word in ANGLES):
        try:
            convert(value, parameter.annotation)
        except Mismatch:
            pass
        else:
            report.error("E0509", f"{what} is not an angle", span, help=f"write {value.amount:g} without `deg`")
            return POISON, False
    try:
        converted = convert(value, parameter.annotation)
    except Mismatch as mismatch:
        code = "E0509" if isinstance(value, Measure) else "E0505"
        report.error(code, refusal(what, value, str(mismatch)), span, help=_advice(value, parameter))
        return POISON, False
    return converted, not isinstance(converted, Poison)


def _advice(value: object, parameter: FormalParameter) -> str:
    if is_number(value) and "duration" in describe(parameter.annotation):
        many = "" if value == 1 else "s"
        return f"say of what: `{value} epoch{many}` or `{value} step{many}`"
    if isinstance(value, float) and value.is_integer() and "integer" in describe(parameter.annotation):
        return f"write {int(value)}; `//` divides integers"
    if isinstance(value, float) and "integer" in describe(parameter.annotation):
        return "`//` divides integers without a remainder"
    text = getattr(value, "text", value)
    if isinstance(text, str):
        return did_you_mean(text, words_of(parameter.annotation))
    return ""


def construct(
    report: Report,
    item: Callable[..., T],
    signature: Signature,
    values: Mapping[str, Any],
    place: Span,
    spans: Mapping[str, Span],
) -> T | None:
    """The dataclass with these values (by field), None where it refuses them, which is reported at the argument."""
    try:
        return item(**values)
    except ArgumentError as error:
        owner = f"`{error.field}` of `{signature.name}`"
        joint = " " if error.sentence.split(" ", 1)[0] in PREDICATES else ": "
        message, _, help = (owner + joint + error.sentence).partition("; ")
        report.error("E0506", message, spans.get(error.field, spans.get(error.field + "_", place)), help=help)
    except (ValueError, ShapeError) as error:
        report.error("E0506", f"`{signature.name}`: {error}", place)
    except DlcError as error:
        report.add(error.diagnostics)
    return None


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:37] + "…"
