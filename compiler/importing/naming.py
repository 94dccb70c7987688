"""Names of layers, found in the names that files give weights and nodes: scopes, and a label in the last of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dlc.compiler.importing.values import Flow

_WEIGHT = re.compile(
    r"[._/](weights?|bias(es)?|kernel|gamma|beta|scale|shift|w|b|s|rm|riv|mean|var(iance)?|running_\w+|moving_\w+)(_\d+)?(:\d+)?$",
    re.IGNORECASE,
)
_NAMELESS = re.compile(r"^(onnx::|/|val_|_?\d+$|OC2_DUMMY)|_output_\d+$|^\w*Constant_?\d*$")
_RESERVED = {"in", "if", "else", "for", "and", "or", "not", "true", "false"}


@dataclass(frozen=True)
class Name:
    """Where a layer stands: the scopes around it, outermost first, and its own label. `known` is False for a guess."""

    scope: tuple[str, ...] = ()
    label: str | None = None
    known: bool = False


def names(flows: Iterable[Flow], producer: str) -> dict[int, Name]:
    """The names of layers by the identity of what they give.

    Nodes' names count most where a producer gives them telling ones: dlc and PyTorch, which has equal weights of several
    layers once, under one name. Else those of weights do (`res2_0_branch2a_w_0`).
    """
    calls = [f for f in flows if f.layer is not None]
    paths = {id(f): _path_of_node(f, producer) or _path_of_weight(f) for f in calls}
    _drop_shared_root(paths)
    scopes = {path[:n] for path in paths.values() if path for n in range(1, len(path))}
    keywords = {f.layer.keyword for f in calls if f.layer is not None}
    found: dict[int, Name] = {}
    for flow in calls:
        path = paths[id(flow)]
        if not path:
            found[id(flow)] = Name()
        elif path in scopes and not flow.weights:
            found[id(flow)] = Name(path, None, True)
        elif path in scopes:
            found[id(flow)] = Name(path, flow.layer.keyword if flow.layer else None, True)
        else:
            found[id(flow)] = Name(path[:-1], _label(flow, path[-1], producer, keywords), True)
    return _numbered(found)


def is_telling(flow: Flow) -> bool:
    """Whether a layer's weights go by names that somebody gave them: a file that was folded has made up some."""
    return not flow.weights or bool(_path_of_weight(flow))


def identifier(text: str, prefix: str = "") -> str:
    """A name that the language takes: letters, digits and underscores, no digit in front, no reserved word."""
    plain = re.sub(r"\W+", "_", text.rsplit("/", 1)[-1], flags=re.ASCII).strip("_")
    if not plain or plain[0].isdigit() or plain in _RESERVED:
        plain = f"{prefix or 'n'}{plain}"
    return plain


def _path_of_weight(flow: Flow) -> tuple[str, ...]:
    keys = sorted(flow.weights, key=lambda key: key != "weight")
    for key in keys:
        name = flow.weights[key].name
        if name and not _NAMELESS.search(name):
            stem = _WEIGHT.sub("", name)
            return tuple(part for part in re.split(r"[./]|::", stem) if part)
    return ()


def _path_of_node(flow: Flow, producer: str) -> tuple[str, ...]:
    """`/layer1/layer1.0/conv1/Conv` of PyTorch's and `layer1.0.conv1` of dlc's nodes."""
    name = flow.node.name
    if producer == "dlc":
        return tuple(name.split("/")[0].split("."))
    if producer != "pytorch" or not name.startswith("/"):
        return ()
    parts: list[str] = []
    for part in name.split("/")[1:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    return tuple(piece for part in parts for piece in part.split("."))


def _label(flow: Flow, last: str, producer: str, keywords: set[str]) -> str | None:
    """A layer's label; None where it is one that layers without label have anyway, or that of a weightless module."""
    stem, _, number = last.rpartition("_")
    if stem in keywords and number.isdigit():
        return None
    if not flow.weights and not last.isdigit() and producer != "dlc":
        return None
    return last


def _drop_shared_root(paths: dict[int, tuple[str, ...]]) -> None:
    """`gpu_0/conv1` and `gpu_0/conv2` → `conv1` and `conv2`."""
    known = [path for path in paths.values() if path]
    while known and min(len(p) for p in known) > 1 and len({p[0] for p in known}) == 1:
        for key, path in paths.items():
            paths[key] = path[1:]
        known = [path for path in paths.values() if path]


def _numbered(found: Mapping[int, Name]) -> dict[int, Name]:
    """`conv2_1.x1` and `conv2_2.x1` → `conv2.1.x1` and `conv2.2.x1`: scopes that count are numbers in one scope."""
    stems: Counter[tuple[tuple[str, ...], str]] = Counter()
    for prefix in {n.scope[: i + 1] for n in found.values() for i in range(len(n.scope))}:
        match = re.fullmatch(r"([a-z]\w*?)[_-](\d+)", prefix[-1])
        if match:
            stems[prefix[:-1], match[1]] += 1

    def split(scope: tuple[str, ...]) -> tuple[str, ...]:
        parts: list[str] = []
        for i, part in enumerate(scope):
            match = re.fullmatch(r"(\w+?)[_-](\d+)", part)
            counts = match is not None and stems[scope[:i], match[1]] > (0 if scope[i - 1 : i] == (match[1],) else 1)
            if match is None or not counts:
                parts.append(part)
            else:
                parts += [match[2]] if parts[-1:] == [match[1]] else [match[1], match[2]]
        return tuple(parts)

    return {key: Name(split(name.scope), name.label, name.known) for key, name in found.items()}
