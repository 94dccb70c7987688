"""Values to the types that parameters name: an integer for `int`, a word for a Literal, a fraction for a percentage."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from dlc.compiler.frontend.values import (
    POISON,
    BlockFunction,
    LambdaFunction,
    LayerFunction,
    Measure,
    Poison,
    Stage,
    Word,
    kind,
)

SEQUENCES = (list, Sequence)


class AnyStage:
    """The declared type `stage`: a stage, or a name that stands for one."""


class AnyBlock:
    """The declared type `block`: what makes stages when it is called: a block, a layer's name, a function."""


FUNCTIONS = (BlockFunction, LayerFunction, LambdaFunction)
KINDS: dict[type, tuple[type, ...]] = {AnyStage: (Stage, *FUNCTIONS), AnyBlock: FUNCTIONS}


class Mismatch(Exception):
    """A value that does not suit a type; the message is the end of "… must be X"."""


def convert(value: object, annotation: Any) -> Any:
    """`value` as `annotation` wants it. None as the annotation takes anything. Raises Mismatch."""
    if isinstance(value, Poison) or (isinstance(value, (list, tuple)) and any(isinstance(v, Poison) for v in value)):
        return POISON
    if annotation is None or annotation is Any or annotation is object:
        return value
    origin = get_origin(annotation)
    if origin is Annotated:
        return convert(value, get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return _union(value, annotation)
    if origin is Literal:
        return _literal(value, annotation)
    if origin is tuple or annotation is tuple:
        return _tuple(value, annotation)
    if origin in SEQUENCES or annotation in SEQUENCES:
        return _list(value, annotation)
    return _plain(value, annotation)


def _plain(value: object, annotation: Any) -> Any:
    if annotation is type(None):
        if value is None or value == Word("none"):
            return None
    elif annotation is bool:
        if isinstance(value, bool):
            return value
    elif annotation is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif annotation is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, Measure) and value.unit == "%":
            return value.amount / 100
        if isinstance(value, Measure) and value.unit == "deg":
            return value.amount
    elif annotation is str:
        if isinstance(value, (str, Word)):
            return value.text if isinstance(value, Word) else value
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        for member in annotation:
            if isinstance(value, (str, Word)) and _text(value) == str(member.value):
                return member
    elif is_duration(annotation):
        if isinstance(value, Measure) and value.unit in ("epoch", "step"):
            return annotation(value.amount, value.unit)
        if isinstance(value, annotation):
            return value
    elif get_origin(annotation) is Mapping or annotation is dict:
        if isinstance(value, Mapping):
            return value
    elif annotation in KINDS:
        if isinstance(value, KINDS[annotation]):
            return value
    elif isinstance(annotation, type) and isinstance(value, annotation):
        return value
    raise Mismatch(describe(annotation))


def _union(value: object, annotation: Any) -> Any:
    arms = get_args(annotation)
    for arm in arms:  # the arm of the value's own type wins: 3 stays an integer for `float | int`
        if arm is type(value):
            return value
    for arm in arms:
        try:
            return convert(value, arm)
        except Mismatch:
            continue
    raise Mismatch(describe(annotation))


def _literal(value: object, annotation: Any) -> Any:
    choices = get_args(annotation)
    plain = _text(value) if isinstance(value, Word) else value
    for choice in choices:
        if type(choice) is type(plain) and choice == plain:
            return choice
    raise Mismatch(describe(annotation))


def _tuple(value: object, annotation: Any) -> Any:
    arms = get_args(annotation)
    if isinstance(value, range):
        value = list(value)
    if not isinstance(value, (list, tuple)):
        raise Mismatch(describe(annotation))
    if not arms:
        return tuple(value)
    if len(arms) == 2 and arms[1] is Ellipsis:
        return _items(value, [arms[0]] * len(value), annotation)
    if len(arms) != len(value):
        raise Mismatch(describe(annotation))
    return _items(value, arms, annotation)


def _items(value: Sequence[object], arms: Sequence[Any], annotation: Any) -> Any:
    try:
        items = tuple(convert(v, a) for v, a in zip(value, arms, strict=True))
    except Mismatch:
        raise Mismatch(describe(annotation)) from None
    return POISON if any(isinstance(v, Poison) for v in items) else items


def _list(value: object, annotation: Any) -> Any:
    if isinstance(value, range):
        value = list(value)
    if not isinstance(value, (list, tuple)):
        raise Mismatch(describe(annotation))
    arms = get_args(annotation)
    items = _items(value, [arms[0] if arms else None] * len(value), annotation)
    return items if isinstance(items, Poison) else list(items)


def _text(value: Word | str) -> str:
    return value.text if isinstance(value, Word) else value


def is_duration(annotation: object) -> bool:
    """Whether a type holds a duration: a dataclass of an amount and a unit (the runtime owns it)."""
    return (
        isinstance(annotation, type)
        and dataclasses.is_dataclass(annotation)
        and {f.name for f in dataclasses.fields(annotation)} == {"amount", "unit"}
    )


def condition_of(annotation: object) -> type[Any] | None:
    """The type of a condition (`train.error < 80%`) that an annotation takes: a dataclass the runtime owns; else None."""
    for arm in (annotation, *get_args(annotation)):
        holds_fields = isinstance(arm, type) and dataclasses.is_dataclass(arm)
        if holds_fields and [f.name for f in dataclasses.fields(arm)] == ["monitor", "relation", "bound"]:
            return cast("type[Any]", arm)  # what was just asked, which mypy forgets
    return None


NAMES = {
    int: ("an integer", "integers"), float: ("a number", "numbers"), bool: ("`true` or `false`", "booleans"),
    str: ("a text", "texts"), type(None): ("`none`", "`none`"), AnyStage: ("a stage", "stages"), AnyBlock: ("a block", "blocks"),
}  # fmt: skip


def describe(annotation: Any, plural: bool = False) -> str:
    """What an annotation takes, for messages: "an integer or a pair of integers"."""
    if annotation in NAMES:
        return NAMES[annotation][plural]
    origin, arms = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(arms[0], plural)
    if origin in (Union, types.UnionType):
        words: list[str] = []
        for arm in arms:
            if get_origin(arm) is Literal:
                words += [f"`{word}`" for word in get_args(arm)]
            elif arm is not type(None):
                words.append(describe(arm, plural))
        words = list(dict.fromkeys(words))
        return ", ".join(words[:-1]) + (" or " if len(words) > 1 else "") + words[-1]
    if origin is Literal:
        words = [f"`{a}`" for a in arms]
        return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]
    if origin is tuple:
        if len(arms) == 2 and arms[1] is Ellipsis:
            return ("lists of " if plural else "a list of ") + describe(arms[0], True)
        count = {2: "pair", 3: "triple"}.get(len(arms), f"tuple of {len(arms)}")
        inner = describe(arms[0], True) if len(set(arms)) == 1 else "values"
        return (f"{count}s of " if plural else f"a {count} of ") + inner if len(arms) < 4 else f"{len(arms)} {inner}"
    if origin in SEQUENCES or annotation in SEQUENCES:
        inner = describe(arms[0], True) if arms else "values"
        return ("lists of " if plural else "a list of ") + inner
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        words = [f"`{member.value}`" for member in annotation]
        return ", ".join(words[:-1]) + " or " + words[-1]
    if is_duration(annotation):
        return "durations" if plural else "a duration (`1 epoch`, `500 steps`)"
    if condition_of(annotation) is not None:
        return "conditions" if plural else "a condition (`train.error < 80%`)"
    name = getattr(annotation, "__name__", str(annotation)).lower()
    if plural:
        return name + "s"
    return ("an " if name[0] in "aeiou" else "a ") + name


def is_finite(value: object) -> bool:
    """Whether a number can be used: neither infinite nor undefined."""
    return not isinstance(value, float) or math.isfinite(value)


def refusal(what: str, value: object, expected: str) -> str:
    """The sentence for a value of the wrong type."""
    return f"{what} must be {expected}, not {kind(value)}"


@cache
def words_of(annotation: object) -> frozenset[str]:
    """The words that an annotation accepts: members of its Literals, values of its Enums, through unions and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return frozenset(str(member.value) for member in annotation)
    found = {a for a in get_args(annotation) if isinstance(a, str)}
    for part in get_args(annotation):
        if not isinstance(part, str):
            found |= words_of(part)
    return frozenset(found)
