"""Reads the settings of `data` and `train` sections: which there are, which are unknown, doubled or missing.

A setting's value is read by what it is for, so this module offers readers: a number, a text, a member of a catalog.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.call import member
from dlc.compiler.frontend.environment import Environment
from dlc.compiler.frontend.evaluator import Evaluator
from dlc.compiler.frontend.suggestions import did_you_mean, listing
from dlc.compiler.frontend.values import Poison, kind
from dlc.compiler.source import Span


@dataclass(frozen=True)
class Settings:
    """The settings of one section, by name; those that may come several times (`grouped`) keep all their lines."""

    section: ast.Section
    lines: Mapping[str, tuple[ast.Setting, ...]]

    def items(self, name: str) -> tuple[ast.Item, ...]:
        """All values of a setting, in the order they are written."""
        return tuple(item for line in self.lines.get(name, ()) for item in line.items)

    def line(self, name: str) -> ast.Setting | None:
        """The line of a setting that comes once; None where it is absent."""
        return next(iter(self.lines.get(name, ())), None)


def read_settings(
    evaluator: Evaluator,
    section: ast.Section,
    known: Sequence[str],
    required: Sequence[str],
    grouped: Sequence[str] = (),
) -> Settings:
    """The settings of a section. Reports unknown, doubled and missing ones."""
    lines: dict[str, tuple[ast.Setting, ...]] = {}
    what = f"{section.kind} `{section.name.name}`"
    for setting in section.settings:
        name = setting.name.name
        if name not in known:
            help = MOVED.get(name, "") or did_you_mean(name, known) or f"there are {listing(known, 20)}"
            evaluator.error(
                "E0801", f"unknown setting `{name}` in a {section.kind} section", setting.name.span, help=help
            )
        elif name in lines and name not in grouped:
            first = lines[name][0].name.span.line
            help = (
                f"separate several with commas, on one line: `{name} a, b`" if name in LISTS else "keep one of the two"
            )
            evaluator.error(
                "E0802", f"`{name}` is set twice", setting.name.span, f"the first is at line {first}", help=help
            )
        else:
            lines[name] = (*lines.get(name, ()), setting)
        if not setting.items and name in known:
            evaluator.error("E0803", f"`{name}` has no value", setting.name.span)
    given = {s.name.name for s in section.settings}
    missing = [names for names in required if not given & set(names.split("|"))]
    if missing and section.base is None:  # a base that is left is one that could not be found, which is reported
        shown = listing(m.replace("|", "` or `") for m in missing)
        examples = "; ".join(EXAMPLES[m] for m in missing)
        evaluator.error("E0804", f"{what} has no {shown}", section.name.span, help=f"for example: {examples}")
    return Settings(section, {k: v for k, v in lines.items() if all(line.items for line in v)})


LISTS = ("metrics", "regularize", "augment")
EXAMPLES = {
    "source": "`source mnist-mini`",
    "model": "`model LeNet5`",
    "data": "`data mnist`",
    "loss": "`loss cross_entropy`",
    "optimizer": "`optimizer sgd(lr=0.1, momentum=0.9)`",
    "epochs|steps": "`epochs 12`",
}
MOVED = {
    "lr": "the rate is the optimizer's: `optimizer sgd(lr=0.1)`",
    "learning_rate": "the rate is the optimizer's: `optimizer sgd(lr=0.1)`",
    "momentum": "momentum is the optimizer's: `optimizer sgd(lr=0.1, momentum=0.9)`",
    "weight_decay": "write `regularize l2(5e-4)`, or `decay(5e-4)` for the decoupled form",
    "l2": "write `regularize l2(5e-4)`",
    "warmup": "write `schedule warmup(1 epoch) then …`",
    "ema": "write `average ema(0.999)`",
    "clip": "write `regularize clip_norm(1)` or `clip_value(1)`",
    "clip_norm": "write `regularize clip_norm(1)`",
    "accumulation": "write `accumulate 4`: the parts that a step's batch goes through in",
    "freeze": "write `optimizer sgd(lr=0.1), frozen for features.*`",
    "dropout": "dropout is a layer: `-> dropout(0.5)`",
    "label_smoothing": "it is the loss's: `loss cross_entropy(label_smoothing=0.1)`",
    "augment": "augmentation belongs to the data section",
    "normalize": "normalisation belongs to the data section",
    "device": "the processor is chosen when it runs: `dlc train --target cpu`",
}
"""Settings of other systems, and where what they set is found here."""


def single(evaluator: Evaluator, setting: ast.Setting, what: str) -> ast.Expression | None:
    """The one value of a setting; None where it has several, a name or a pattern, which is reported."""
    item = setting.items[0]
    if len(setting.items) > 1:
        evaluator.error(
            "E0805", f"`{setting.name.name}` takes one value, not {len(setting.items)}", setting.items[1].span
        )
        return None
    return plain(evaluator, setting.name.name, item, what)


def plain(evaluator: Evaluator, name: str, item: ast.Item, what: str) -> ast.Expression | None:
    """The value of an item without name and pattern; None where it has one, which is reported."""
    if item.name is not None:
        evaluator.error("E0805", f"`{name}` takes {what}, not a named value", item.name.span)
        return None
    if item.pattern is not None:
        evaluator.error("E0805", f"`{name}` is for the whole network, it takes no `for`", item.pattern.span)
        return None
    return item.value


def value_of(evaluator: Evaluator, setting: ast.Setting, what: str) -> Any:
    """The evaluated value of a setting that has one; unknown where something is wrong."""
    node = single(evaluator, setting, what)
    return Poison() if node is None else evaluator.evaluate(node, Environment())


def number(
    evaluator: Evaluator,
    setting: ast.Setting,
    *,
    unit: str = "",
    whole: bool = True,
    least: float = 0,
    most: float = float("inf"),
    above: bool = False,
) -> int | float | None:
    """A setting that is a number: an integer where `whole`, else any; with `unit` where one is given. None where it is
    not within `least` (itself excluded where `above`) and `most`, which is reported."""
    name = setting.name.name
    wanted = "an integer" if whole else "a number"
    value = value_of(evaluator, setting, wanted)
    span = setting.items[0].value.span
    if isinstance(value, Poison):
        return None
    amount = getattr(value, "amount", value)
    given = getattr(value, "unit", "")
    if given == "%" and unit == "%":
        amount, given = amount / 100, "%"
    if given not in ("", unit):
        other = {"epoch": "epochs", "step": "steps"}.get(given, name) if name in ("epochs", "steps") else name
        evaluator.error(
            "E0806", f"`{name}` takes {wanted}, not {value}", span, help=f"write `{other} {value.amount:g}`"
        )
        return None
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or (whole and not isinstance(amount, int)):
        evaluator.error("E0806", f"`{name}` takes {wanted}, not {kind(value)}", span)
        return None
    if amount < least or amount > most or (above and amount == least):
        low = f"above {least:g}" if above else f"at least {least:,.14g}"
        bound = f"at most {most * 100:g}%" if unit == "%" else f"at most {most:,.14g}"
        bound = bound if amount > most else low
        help = f"a fraction: `{name} {amount:g}%`" if unit == "%" and not given and 1 < amount <= 100 * most else ""
        evaluator.error("E0807", f"`{name}` must be {bound}, not {setting.items[0].value.span.text}", span, help=help)
        return None
    return amount


def chosen(
    evaluator: Evaluator,
    catalog: Mapping[str, type[Any]],
    what: str,
    node: ast.Expression,
    env: Environment | None = None,
) -> Any | None:
    """A member of a catalog: `mnist-mini`, `sgd(lr=0.1)`; None where it is none, which is reported."""
    target = node.function if isinstance(node, ast.Call) else node
    name = dotted(target)
    if name is None:
        article = "an" if what[0] in "aeiou" else "a"
        evaluator.error(
            "E0808", f"{article} {what} is named here", node.span, help=f"there are {listing(sorted(catalog), 20)}"
        )
        return None
    if name not in catalog:
        help = did_you_mean(name, catalog) or f"there are {listing(sorted(catalog), 20)}"
        evaluator.error("E0809", f"unknown {what} `{name}`", target.span, help=help)
        return None
    return member(evaluator, catalog[name], what, node, env or Environment())


def dotted(node: ast.Expression) -> str | None:
    """The text of `mnist`, `fashion-mnist` or `val.error`; None for anything else."""
    match node:
        case ast.Name():
            return node.name
        case ast.Attribute():
            left = dotted(node.value)
            return f"{left}.{node.name.name}" if left else None
        case ast.Binary(operator="-"):
            left, right = dotted(node.left), dotted(node.right)
            return f"{left}-{right}" if left and right else None
        case ast.String():
            return node.value
    return None


def written(settings: Settings) -> dict[str, str]:
    """The section as it is written, setting by setting, in one line each."""
    found: dict[str, str] = {}
    for name, lines in settings.lines.items():
        found[name] = "; ".join(_text(line) for line in lines)
    return found


def _text(line: ast.Setting) -> str:
    span: Span = line.items[0].span.to(line.items[-1].span)
    rows = [row.partition("#")[0] if '"' not in row else row for row in span.text.split("\n")]
    return " ".join(" ".join(rows).split())
