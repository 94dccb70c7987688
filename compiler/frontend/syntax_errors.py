"""What to say where the grammar cannot go on: the fact and advice for each way to get there.

Codes: E0101 unknown character, E0102 string, E0103 number or unit, E0104 never closed, E0105 closes nothing or the wrong
bracket, E0106 something is missing, E0107 unknown definition, E0108 not possible here, E0109 nested too deeply, E0110 too
long, E0111 comma missing, E0112 reserved word as a name, E0113 two things side by side, E0100 anything else.
"""

from __future__ import annotations

from difflib import get_close_matches

from dlc.compiler.errors import Diagnostic
from dlc.compiler.frontend.ast import UNITS
from dlc.compiler.frontend.syntax_place import CLOSERS, KINDS, Place
from dlc.compiler.frontend.word import DEFINITIONS

_RESERVED = {"IN", "IF", "ELSE", "FOR", "AND", "OR", "NOT", "TRUE", "FALSE"}
_ENDS = {"NEWLINE", "$END", "RBRACE"}
_VALUES = {"NAME", "NUMBER", "STRING", "TRUE", "FALSE", "LPAR", "LSQB"}
_COMPARISONS = {"EQUALS", "DIFFERS", "LESS", "GREATER", "AT_MOST", "AT_LEAST"}
_FOREIGN = {
    "return": "the last expression of a block is its value",
    "let": "a name is given a value by `name = value`",
    "var": "a name is given a value by `name = value`",
    "const": "a name is given a value by `name = value`",
    "def": "functions are blocks: `block Name(parameters) = …`",
    "lambda": "a lambda is written `i => …`",
    "elif": "a choice is written `x if condition else y`",
    "while": "stages are repeated by `repeat(n, i => stage)`",
}


def explain(place: Place) -> Diagnostic:
    """The diagnostic for a place where the grammar cannot go on."""
    for rule in _RULES:
        mistake = rule(place)
        if mistake is not None:
            return mistake
    return _anything(place)


def _outside(place: Place) -> Diagnostic | None:
    if place.index != place.item or place.braces:
        return None
    close = get_close_matches(place.found, DEFINITIONS, n=1)
    if place.found.type == "NAME" and close:
        return place.mistake("E0107", f"`{place.found}` starts no definition", f"did you mean `{close[0]}`?")
    if place.found.type == "QUOTIENT":
        return _comment(place)
    help = _FOREIGN.get(place.found, "a file holds definitions: model, block, data, train and import")
    return place.mistake("E0107", f"{place.shown} stands outside every definition", help)


def _comment(place: Place) -> Diagnostic | None:
    if (
        place.found.type == "QUOTIENT"
        and (place.before is None or place.before.end < place.found.start)
        and place.index == place.start
    ):
        return place.mistake("E0108", "`//` is a division, not a comment", "comments start with `#`")
    return None


def _header(place: Place) -> Diagnostic | None:
    """Between `model`, `block`, `data`, `train`, `import` and what they need."""
    if place.braces or place.before is None:
        return None
    word, start = place.before, place.index - 1 == place.item
    if start and place.accepts == {"NAME"}:
        if place.found.type in _RESERVED:
            return _reserved(place)
        return place.mistake(
            "E0106",
            f"expected the name of the {word} section"
            if word in ("data", "train")
            else f"expected the name of the {word}",
        )
    if start and place.accepts == {"STRING"}:
        return place.mistake(
            "E0106", f"expected a path in quotes after `{word}`", 'write `import "blocks/residual.dlspec"`'
        )
    if "LBRACE" in place.accepts and not place.ends_value:
        kind, name = place.first, place.tokens[place.start + 1]
        if place.found.type == "COLON":
            return place.mistake("E0108", f"`:` cannot open the body of a {kind}", "bodies stand in braces: `{ … }`")
        if kind in ("data", "train"):
            return place.mistake(
                "E0106",
                f"expected `{{` after the name of the {kind} section, found {place.shown}",
                f"write `{kind} {name} {{ … }}`, or `{kind} {name} extends OTHER {{ … }}`",
            )
        if place.found.type == "ARROW":
            return place.mistake(
                "E0106", f"expected `=` or `{{` before {place.shown}", f"write `{kind} {name} = …` for a chain"
            )
        help = f"write `{kind} {name}(parameters) = …` or `{kind} {name}(parameters) {{ … }}`"
        return place.mistake("E0106", f"`{kind} {name}` has no body: expected `=` or `{{`, found {place.shown}", help)
    return None


def _reserved(place: Place) -> Diagnostic | None:
    found = place.found
    if found.type in _RESERVED and "NAME" in place.accepts and not place.wants_value:
        return place.mistake("E0112", f"`{found}` is a word of the language and cannot be a name")
    following = place.tokens[min(place.index + 1, len(place.tokens) - 1)]
    if found.type in _RESERVED and place.index == place.start and following.type == "EQUAL":
        return place.mistake("E0112", f"`{found}` is a word of the language and cannot be a name")
    if found.type == "EQUAL" and place.before is not None and place.before.type in _RESERVED:
        help = "`in` is the block's input; call this something else" if place.before == "in" else ""
        return place.mistake(
            "E0112", f"`{place.before}` is a word of the language and cannot be a name", help, place.before
        )
    return None


def _arrows(place: Place) -> Diagnostic | None:
    found, before = place.found, place.before
    if before is not None and before.type in ("MINUS", "EQUAL") and found.type == "GREATER":
        return place.mistake("E0108", f"an arrow is written `{before}>`, without a space")
    if found.type == "GIVES" and place.bracket is not None and before is not None and before.type != "NAME":
        return place.mistake("E0108", "a lambda's parameters are names", "write `i => …` or `(a, b) => …`", before)
    if found.type == "GIVES" and place.ends_value:
        return place.mistake("E0108", "`=>` belongs to lambdas", "stages are joined by `->`")
    if found.type != "ARROW":
        return None
    if before is None:
        return place.mistake("E0108", "a chain cannot start with `->`", "put a tensor or a stage in front")
    if before.type == "ARROW":
        return place.mistake("E0106", "expected a stage between two `->`")
    if "WHEN" in place.accepts or before == "training":
        return place.mistake(
            "E0108",
            "nothing can follow an output",
            "name the tensor (`x = …`), then use it twice: `x -> output …` and `x -> …`",
        )
    return None


def _output(place: Place) -> Diagnostic | None:
    before = place.before
    if before is None:
        return None
    if before == "output" and place.accepts == {"NAME"}:
        return place.mistake("E0106", "an output needs a name", "write `-> output logits`")
    if before == "output" and place.found.type == "NAME" and (place.bracket is not None or "ARROW" in place.accepts):
        arrow = next((t for t in place.tokens[place.start : place.index] if t.type == "GIVES"), None)
        if arrow is not None and place.bracket is None:
            return place.mistake("E0108", "`=>` belongs to lambdas", "stages are joined by `->`", arrow)
        where = "inside brackets" if place.bracket is not None else "here"
        return place.mistake(
            "E0108", f"an output cannot stand {where}", "an output ends a statement: `… -> output name`", before
        )
    if before == "when" and place.accepts == {"NAME"}:
        return place.mistake("E0106", "expected `training` after `when`")
    return None


def _statement(place: Place) -> Diagnostic | None:
    """`input` and `expect`, and settings without their value."""
    first, found = place.first, place.found
    if place.in_section and place.index == place.start + 1 and "FROM" in place.accepts:
        if found.type in ("EQUAL", "COLON"):
            following = place.tokens[place.index + 1]
            value = following if following.type in ("NAME", "NUMBER", "STRING", "TRUE", "FALSE") else "value"
            return place.mistake("E0108", f"a setting is written without `{found}`", f"write `{first} {value}`")
        if found.type in _ENDS:
            return place.mistake("E0106", f"the setting `{first}` has no value", f"write `{first} value`", first)
    if place.in_section or place.wants_value or not ("COLON" in place.accepts or place.accepts == {"NAME"}):
        return None
    if first == "input":
        help = "write `input image: [3, 224, 224]`: channels, height, width"
        return place.mistake("E0106", "an input needs a name and a shape", help)
    if first == "expect":
        help = "write `expect params = 61_706` for a number, `expect logits: [10]` for a shape"
        if place.accepts == {"NAME"}:
            return place.mistake("E0106", "`expect` needs to know of what", help)
        return place.mistake("E0106", f"expected `=` or `:` before {place.shown}", help)
    return None


def _equals(place: Place) -> Diagnostic | None:
    if place.found.type != "EQUAL":
        return None
    earlier = place.tokens[place.start : place.index]
    if any(t.type == "IF" for t in earlier):
        return place.mistake("E0108", "`=` does not compare", "write `==`")
    if earlier[-1:] and earlier[-1].type == "EQUAL":
        return None
    if place.bracket is not None:
        return place.mistake("E0108", "the name of an argument is a single word", "to compare, write `==`")
    if any(t.type == "EQUAL" for t in earlier):
        return place.mistake("E0108", "one statement gives a value once", "to compare, write `==`")
    if place.ends_value:
        return place.mistake("E0108", "only a name can be given a value", "to compare, write `==`")
    return None


def _comparison(place: Place) -> Diagnostic | None:
    if place.found.type in _COMPARISONS and "AND" in place.accepts and place.found.type not in place.accepts:
        return place.mistake("E0108", "comparisons cannot be chained", "write `a < b and b < c`")
    return None


def _conditional(place: Place) -> Diagnostic | None:
    if "ELSE" in place.accepts and "IF" not in place.accepts and place.found.type not in _VALUES:
        chosen = any(t.type == "IF" for t in place.tokens[place.start : place.index])
        if chosen:
            return place.mistake(
                "E0106",
                f"`if` needs an `else` before {place.shown}",
                "write `x if condition else y`; `identity` is the stage that does nothing",
            )
    if place.found.type == "ELSE" and not place.wants_value:
        return place.mistake("E0108", "`else` without its `if`", "write `x if condition else y`")
    return None


def _comprehension(place: Place) -> Diagnostic | None:
    if place.accepts <= {"IN", "COMMA"} and "IN" in place.accepts:
        return place.mistake("E0106", f"expected `in` before {place.shown}", "write `[f(i) for i in 0..n]`")
    if (
        place.found.type == "FOR"
        and place.bracket is not None
        and place.bracket.type == "LPAR"
        and not place.wants_value
    ):
        return place.mistake(
            "E0108", "a comprehension stands in square brackets", "write `chain([f(i) for i in 0..n])`"
        )
    if place.found.type == "FOR" and place.bracket is None and place.ends_value and not place.in_section:
        return place.mistake("E0108", "a comprehension stands in square brackets", "write `[f(i) for i in 0..n]`")
    return None


def _missing_value(place: Place) -> Diagnostic | None:
    found, before = place.found, place.before
    if not place.wants_value:
        return None
    if found.type in ("STAR", "POWER") and before is not None and before.type in ("LPAR", "COMMA"):
        return place.mistake(
            "E0108", f"`{found}` unpacks nothing here", "write the arguments out, or use `chain(list)`"
        )
    if found.type == "NOT":
        return place.mistake(
            "E0108", "`not` binds looser than what stands before it", "put it in parentheses: `(not x)`"
        )
    if found.type == "LBRACE":
        return _brace(place)
    if before is None or (found.type in _VALUES and found.type != "NAME"):
        return None
    if found.type == "COMMA" and before.type == "COMMA":
        return place.mistake("E0106", "expected a value between two `,`")
    what = "a stage" if before.type == "ARROW" else "a value"
    help = "go on with a stage, `-> relu`, or end with `-> output name`" if before.type == "ARROW" else ""
    return place.mistake("E0106", f"expected {what} after `{before}` before {place.shown}", help)


def _brace(place: Place) -> Diagnostic | None:
    if place.found.type == "LBRACE" and place.braces:
        return place.mistake(
            "E0108",
            "`{` cannot stand here",
            "a body belongs to `model`, `block`, `data` or `train`, at the start of a line of the file",
        )
    return None


def _missing_name(place: Place) -> Diagnostic | None:
    if place.accepts == {"NAME"} and place.before is not None:
        return place.mistake("E0106", f"expected a name after `{place.before}`, found {place.shown}")
    return None


def _closes_nothing(place: Place) -> Diagnostic | None:
    if place.found.type in CLOSERS and place.bracket is None:
        return place.mistake("E0105", f"`{place.found}` closes nothing")
    return None


def _label(place: Place) -> Diagnostic | None:
    if place.found.type != "COLON":
        return None
    if place.before is not None and place.before.type in _RESERVED:
        return place.mistake(
            "E0112", f"`{place.before}` is a word of the language and cannot be a name", at=place.before
        )
    if any(t.type == "COLON" for t in place.tokens[max(place.start, place.index - 2) : place.index]):
        return place.mistake("E0108", "a stage has one label")
    if place.ends_value:
        return place.mistake("E0108", "a label is a single name", "write `conv1: conv(64, 3)`")
    return None


def _side_by_side(place: Place) -> Diagnostic | None:
    """A value right behind a value."""
    found, before = place.found, place.before
    if before is None or not place.ends_value or found.type not in _VALUES | {"NOT", "IN"}:
        return None
    if before.type == "NUMBER" and found.type == "NAME":
        close = get_close_matches(found, UNITS, n=1)
        if close:
            return place.mistake("E0103", f"`{found}` is not a unit", f"did you mean `{close[0]}`?")
    if place.bracket is not None:
        between = "arguments" if place.bracket.type == "LPAR" else "items"
        return place.mistake("E0111", f"expected `,` between two {between} before {place.shown}")
    if place.in_section:
        close = get_close_matches(found, ["then", "for", "else"], n=1)
        help = f"did you mean `{close[0]}`?" if close else "values are separated by `,`; each setting has its own line"
        return place.mistake("E0113", f"{place.shown} cannot stand right behind `{before}`", help)
    return _statement_words(place) or place.mistake(
        "E0113",
        f"expected `->` or the end of the line before {place.shown}",
        "stages are joined by `->`; each statement has its own line",
    )


def _statement_words(place: Place) -> Diagnostic | None:
    """Two words at the start of a statement: a misspelt or foreign keyword, or a definition in the wrong place."""
    first, before, found = place.first, place.before, place.found
    if before == "->" or found == "output":
        return place.mistake("E0113", "expected `->` before `output`")
    if place.index != place.start + 1 or first.type != "NAME":
        return None
    if first in DEFINITIONS:
        return place.mistake(
            "E0108", f"`{first}` cannot stand inside a model or block", "put it outside, before or behind", first
        )
    if first in _FOREIGN:
        return place.mistake("E0108", f"`{first}` is not part of the language", _FOREIGN[first], first)
    close = get_close_matches(first, ["input", "output", "expect"], n=1)
    if close:
        return place.mistake("E0108", f"`{first}` starts no statement", f"did you mean `{close[0]}`?", first)
    return None


def _unfinished(place: Place) -> Diagnostic | None:
    """Inside brackets: something other than a comma or the closing bracket."""
    if place.bracket is None or not place.accepts & {"RPAR", "RSQB"}:
        return None
    closer = ")" if place.bracket.type == "LPAR" else "]"
    return place.mistake(
        "E0100",
        f"expected `,` or `{closer}`, found {place.shown}",
        f"`{place.bracket}` opened in line {place.bracket.span.line}",
    )


def _anything(place: Place) -> Diagnostic:
    accepts = place.accepts - {"BAD"} - ({"RBRACE", "$END"} if "NEWLINE" in place.accepts else set())
    kinds = sorted(KINDS.get(kind, f"`{kind.lower()}`") for kind in accepts)
    if place.wants_value:
        kinds = ["a value"]
    elif place.ends_value:
        kinds = ["`->`", "an operator", "the end of the line"]
    expected = ", ".join(kinds[:-1]) + " or " + kinds[-1] if len(kinds) > 1 else "".join(kinds)
    return place.mistake("E0100", f"expected {expected}, found {place.shown}")


_RULES = (
    _outside,
    _comment,
    _header,
    _reserved,
    _arrows,
    _output,
    _statement,
    _equals,
    _comparison,
    _conditional,
    _comprehension,
    _missing_value,
    _missing_name,
    _closes_nothing,
    _label,
    _side_by_side,
    _brace,
    _unfinished,
)
