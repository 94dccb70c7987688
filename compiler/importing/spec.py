"""The text of a spec for a graph that was read, and the order in which it calls the layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dlc.compiler.importing.blocks import Block, BlockFinder
from dlc.compiler.importing.model import Reading
from dlc.compiler.importing.naming import identifier, is_telling, names
from dlc.compiler.importing.parts import Grouping, Row, call_of, flows, with_own_labels
from dlc.compiler.importing.regrouping import regrouped
from dlc.compiler.importing.structure import Join, Line, Statement, statements
from dlc.compiler.importing.values import Flow
from dlc.compiler.importing.writing import arguments_text, call_text, row_lines, row_text
from dlc.compiler.layers.base import FeatureShape

BROKEN = 90
"""Longer bodies of blocks are written on several lines."""


@dataclass(frozen=True)
class Spec:
    """A spec in the making: its definitions without a model's end, the flows in the order of its layer calls."""

    name: str
    blocks: tuple[Block, ...]
    inputs: tuple[tuple[str, FeatureShape], ...]
    lines: tuple[str, ...]
    calls: tuple[Flow, ...]

    def text(self, comment: str, expectations: Sequence[str]) -> str:
        """The whole file: a comment, the blocks, the model with what it expects."""
        definitions = [f"# {comment}\n"]
        definitions += [_block_text(block) for block in self.blocks]
        inputs = [f"    input {name}: [{', '.join(map(str, shape))}]" for name, shape in self.inputs]
        expected = [f"    expect {e}" for e in expectations]
        sections = ["\n".join(inputs), "\n".join(self.lines), *(["\n".join(expected)] if expected else [])]
        definitions.append(f"model {self.name} {{\n" + "\n\n".join(sections) + "\n}\n")
        return "\n".join(definitions)


def write(reading: Reading, producer: str, name: str) -> Spec:
    """A spec of a graph: blocks found again, labels kept, all else as chains."""
    reading = regrouped(reading)
    made = statements(reading)
    is_named = all(map(is_telling, reading.flows))
    grouping = Grouping(names(reading.flows, producer), fills=is_named)
    lines = [line for statement in made for line in _lines(statement.line)]
    finder = BlockFinder({name}, keeps_numbers=is_named)
    rows = with_own_labels(finder.resolve([grouping.row(line.chain) for line in lines]))
    blocks = [replace(b, body=with_own_labels([b.body])[0]) for b in finder.blocks]
    by_line = {id(line): row for line, row in zip(lines, rows, strict=True)}
    layers = {f.layer.keyword for f in reading.flows if f.layer is not None}
    taken = {name, "fork", "residual", "repeat", "chain", "identity", *layers, *(b.name for b in blocks)}
    tensors = _tensor_names(reading, made, taken)
    writer = _Writer(by_line, tensors, {id(i) for f in reading.flows for i in f.inputs})
    texts = [text for statement in made for text in writer.statement(statement)]
    inputs = tuple((tensors[id(f)], f.shape) for f in reading.inputs.values())
    return Spec(name, tuple(blocks), inputs, tuple(texts), tuple(f for s in made for f in _calls(s.line)))


def output_name(name: str) -> str:
    """An output's name in the spec: the file's, if it is one that the language takes; a number says nothing."""
    return "output" if name.isdigit() else identifier(name, "output_")


@dataclass(frozen=True)
class _Writer:
    rows: dict[int, Row]
    tensors: dict[int, str]
    used: set[int]

    def statement(self, statement: Statement) -> Iterator[str]:
        """The lines of one statement."""
        outputs = [output_name(o) for o in statement.outputs]
        named = id(statement.result) in self.used or len(outputs) != 1
        start, parts = self._start(statement.line), row_lines(self.rows[id(statement.line)])
        name = self.tensors[id(statement.result)]
        if not statement.result.inputs:
            yield from (f"    {name} -> output {o}" for o in outputs)
            return
        head = f"    {name} = {start}" if named else f"    {start}"
        body = "".join(f"\n        -> {part}" for part in parts)
        yield head + body if named else f"{head}{body}\n        -> output {outputs[0]}"
        if named:
            yield from (f"    {name} -> output {o}" for o in outputs)

    def _start(self, line: Line) -> str:
        """What a line starts with: a name, or a layer that takes several lines."""
        if isinstance(line.start, Flow):
            return self.tensors[id(line.start)]
        arguments = [self._inline(inner) for inner in line.start.lines]
        call = call_of(line.start.join, None)
        rest = call_text(call).removeprefix(call.keyword).strip("()")
        return f"{call.keyword}({', '.join([*arguments, *([rest] if rest else [])])})"

    def _inline(self, line: Line) -> str:
        row = self.rows[id(line)]
        return self._start(line) + (f" -> {row_text(row)}" if row else "")


def _lines(line: Line) -> Iterator[Line]:
    """A line and those that it joins, in the order in which they are written."""
    if isinstance(line.start, Join):
        for inner in line.start.lines:
            yield from _lines(inner)
    yield line


def _calls(line: Line) -> Iterator[Flow]:
    if isinstance(line.start, Join):
        for inner in line.start.lines:
            yield from _calls(inner)
        yield line.start.join
    yield from flows(line.chain)


def _tensor_names(reading: Reading, made: Sequence[Statement], taken: set[str]) -> dict[int, str]:
    """Names of inputs, and of tensors that several lines use."""
    found: dict[int, str] = {}
    for name, flow in reading.inputs.items():
        plain = name.rsplit("/", 1)[-1]
        known = plain[:1].isalpha() and not plain.startswith(("input.", "onnx::"))
        usual = "image" if len(flow.shape) == 3 else "x"
        found[id(flow)] = _unique(identifier(plain) if known else usual, taken)
    for statement in made:
        if id(statement.result) not in found:
            found[id(statement.result)] = _unique("t", taken, always=True)
    return found


def _unique(name: str, taken: set[str], *, always: bool = False) -> str:
    number, found = 1, f"{name}1" if always else name
    while found in taken:
        number += 1
        found = f"{name}{number}"
    taken.add(found)
    return found


def _block_text(block: Block) -> str:
    head = f"block {block.name}{arguments_text(block.parameters)} ="
    whole = row_text(block.body)
    if len(whole) <= BROKEN:
        return f"{head} {whole}\n" if len(head) + len(whole) < BROKEN else f"{head}\n    {whole}\n"
    first, *rest = row_lines(block.body)
    return f"{head}\n    {first}" + "".join(f"\n    -> {line}" for line in rest) + "\n"
