"""How data flows through the parts of a network: sequences, branches that join again, blocks that repeat.

The language is structural, so nearly every network is series-parallel: between two parts that every path passes, the others
fall into branches. What does not (parts with several ways in and out that cross) stays a *tangle*, a small graph.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dlc.compiler.network import LayerCall, Network, NetworkInput, Tensor
from dlc.figures.structure import Group, Node, Part, Port, Unit, entries, signature, structure

ENTRY, EXIT = -1, -2  # the ends of a region, as numbers beside those of its nodes
NESTED = 40  # branches inside branches that are taken apart


@dataclass(frozen=True, eq=False)
class Block:
    """A group, or `len(groups)` equal ones in a row; `content` is the inside of the first, None where it stays closed."""

    groups: tuple[Group, ...]
    content: Chain | None


@dataclass(frozen=True, eq=False)
class Branches:
    """Chains beside one another that start at one place, and end in `join`, or without one in the next element."""

    branches: tuple[Chain, ...]
    join: Unit | Group | Port | None


@dataclass(frozen=True, eq=False)
class Tangle:
    """Parts whose connections cross: pairs of places in `nodes`, ENTRY and EXIT."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]


Element = Unit | Port | Block | Branches | Tangle


@dataclass(frozen=True, eq=False)
class Chain:
    """Elements in a row; an empty one passes on what comes in."""

    elements: tuple[Element, ...]


@dataclass(frozen=True, eq=False)
class Side:
    """A chain that leaves the main one behind its element number `at`: an auxiliary head, or a further output."""

    at: int
    chain: Chain
    training_only: bool


@dataclass(frozen=True, eq=False)
class Flow:
    """A network's main chain, from its inputs to its main output, and what leaves it."""

    main: Chain
    sides: tuple[Side, ...]


def flow(network: Network, depth: int) -> Flow:
    """The flow through a network whose blocks are open to a depth: 0 closes all, 1 opens those of the model itself …"""
    reader = Reader(network)
    inputs: list[Node] = [Port(i) for i in network.inputs]
    outputs: list[Node] = [Port(o) for o in network.outputs]
    nodes = [*inputs, *reader.spliced(reader.parts, depth), *outputs]
    graph = reader.graph(nodes)
    main = max(
        (graph.before(i) for i, n in enumerate(nodes) if isinstance(n, Port) and n in outputs and not _training(n)),
        key=len,
    )
    taps = []
    for part in graph.components(set(range(len(nodes))) - main):
        before = {p for i in part for p in graph.before_edge[i] if p not in part}
        if len(before) == 1 and min(before) >= 0:
            taps.append((before.pop(), part))
        else:
            main = main | part
    kept = [n for i, n in enumerate(nodes) if i in main]
    chain = reader.chain(kept, depth)
    sides = []
    for tap, part in taps:
        at = next((k for k, e in enumerate(chain.elements) if _ends_with(e, nodes[tap])), None)
        if at is None:  # it leaves from within a branch: only the whole shows it
            return Flow(reader.chain(nodes, depth), ())
        branch = [nodes[i] for i in sorted(part)]
        sides.append(Side(at, reader.chain(branch, depth), all(_training(n) for n in branch if isinstance(n, Port))))
    if max(Counter(side.at for side in sides).values(), default=0) > 2:  # a chain has two sides
        return Flow(reader.chain(nodes, depth), ())
    return Flow(chain, tuple(sides))


def inside(network: Network, group: Group, depth: int) -> Chain:
    """The flow within a group whose own blocks are open to a depth."""
    return Reader(network).inside(group, depth)


def _training(node: Node) -> bool:
    return isinstance(node, Port) and getattr(node.port, "training_only", False)


def _ends_with(element: Element, node: Node) -> bool:
    """Whether what a node gives is what an element gives."""
    match element:
        case Block():
            return node.calls[-1:] == element.groups[-1].calls[-1:]
        case Branches():
            return element.join is not None and node.calls[-1:] == element.join.calls[-1:]
        case Tangle():
            return False
    return element is node


class Graph:
    """Nodes by their numbers, which are in topological order, and the numbers that each takes from and gives to."""

    def __init__(self, size: int, edges: Iterable[tuple[int, int]]) -> None:
        self.size = size
        self.before_edge: dict[int, list[int]] = defaultdict(list)
        self.after_edge: dict[int, list[int]] = defaultdict(list)
        for source, target in edges:
            self.before_edge[target].append(source)
            self.after_edge[source].append(target)

    def before(self, number: int) -> set[int]:
        """A node and all it needs."""
        found, stack = {number}, [number]
        while stack:
            new = [p for p in self.before_edge[stack.pop()] if p >= 0 and p not in found]
            found.update(new)
            stack.extend(new)
        return found

    def components(self, numbers: set[int]) -> list[set[int]]:
        """The sets of nodes that hang together without the others, in order."""
        left, found = set(numbers), []
        while left:
            component, stack = set(), [min(left)]
            while stack:
                number = stack.pop()
                if number in left:
                    left.discard(number)
                    component.add(number)
                    stack += self.before_edge[number] + self.after_edge[number]
            found.append(component)
        return found

    def cuts(self, numbers: Sequence[int], start: int, end: int) -> list[int]:
        """Those of the nodes between two places that every path passes. Paths are counted from both sides."""
        forward, backward = {start: 1}, {end: 1}
        within = set(numbers)
        for n in numbers:
            forward[n] = sum(forward.get(p, 0) for p in self.before_edge[n] if p in within or p == start)
        for n in reversed(numbers):
            backward[n] = sum(backward.get(s, 0) for s in self.after_edge[n] if s in within or s == end)
        paths = sum(backward[n] * self.after_edge[start].count(n) for n in within.intersection(self.after_edge[start]))
        return [n for n in numbers if forward[n] * backward[n] == paths]


class Reader:
    """Takes a network's parts apart into chains."""

    def __init__(self, network: Network) -> None:
        self.users: dict[int, list[int]] = defaultdict(list)  # what uses a call's or an input's tensor
        for call in network.calls:
            for tensor in call.inputs:
                self.users[id(tensor.producer)].append(id(call))
        for output in network.outputs:
            self.users[id(output.tensor.producer)].append(id(output))
        self.parts = structure(network)
        self.blocks = Counter(_blocks(self.parts))

    def inside(self, group: Group, depth: int) -> Chain:
        """The flow within a group."""
        return self.chain(self.spliced(group.parts, depth), depth)

    def spliced(self, parts: Sequence[Part], depth: int) -> list[Node]:
        """Parts with those groups replaced by theirs that are open but have several ways in or out."""
        found: list[Node] = []
        for part in parts:
            opened = isinstance(part, Group) and (depth > 0 or not part.block)
            if isinstance(part, Group) and opened and not self._simple(part):
                found += self.spliced(part.parts, depth - bool(part.block))
            else:
                found.append(part)
        return found

    def _simple(self, group: Group) -> bool:
        """Whether one tensor goes in and one comes out."""
        own = {id(call) for call in group.calls}
        leaving = [call for call in group.calls if any(user not in own for user in self.users[id(call)])]
        return len(entries(group)) == 1 and len(leaving) == 1

    def graph(self, nodes: Sequence[Node]) -> Graph:
        """The connections of nodes, from and to the outside too. Where there are ports, only those lead outside."""
        within = not any(isinstance(node, Port) for node in nodes)
        owner = {id(call): i for i, node in enumerate(nodes) for call in node.calls}
        owner |= {id(n.port): i for i, n in enumerate(nodes) if isinstance(n, Port)}
        edges: list[tuple[int, int]] = []
        for i, node in enumerate(nodes):
            if isinstance(node, Port) and isinstance(node.port, NetworkInput):
                edges.append((ENTRY, i))
            edges += [(owner.get(id(t.producer), ENTRY), i) for t in _taken(node)]
            made = [id(call) for call in node.calls]
            last = isinstance(node, Port) and not isinstance(node.port, NetworkInput)
            if last or (within and any(user not in owner for key in made for user in self.users[key])):
                edges.append((i, EXIT))
        return Graph(len(nodes), edges)

    def chain(self, nodes: Sequence[Node], depth: int) -> Chain:
        """Nodes, in topological order, as a chain."""
        graph = self.graph(nodes)
        return self._between(graph, nodes, list(range(len(nodes))), ENTRY, EXIT, depth, 0)

    def _between(
        self, graph: Graph, nodes: Sequence[Node], numbers: list[int], start: int, end: int, depth: int, nested: int
    ) -> Chain:
        elements: list[Element] = []
        cuts = graph.cuts(numbers, start, end)
        left = set(numbers) - set(cuts)
        within = set(numbers)
        for source, target in zip([start, *cuts], [*cuts, end], strict=True):
            # topological order: what is between two cuts has a number between theirs
            low = source if source in within else -1
            high = target if target in within else graph.size
            region = {n for n in left if low < n < high}
            node = nodes[target] if target in within else None
            direct = graph.after_edge[source].count(target) if (source, target) != (start, end) else 0
            elements += self._join(graph, nodes, region, source, target, direct, node, depth, nested)
        return Chain(tuple(e for element in _repeats(elements) for e in self._bare(element)))

    def _bare(self, element: Element) -> tuple[Element, ...]:
        """The inside of a block that needs no frame around it: a scope, a row of blocks, a row of layers with no double."""
        if not isinstance(element, Block) or element.content is None or len(element.groups) > 1:
            return (element,)
        block, inner = element.groups[0].block, element.content.elements
        plain = all(isinstance(e, Unit) for e in inner)
        if not block or all(isinstance(e, Block) for e in inner) or (plain and self.blocks[block] == 1):
            return inner
        return (element,)

    def _join(
        self, graph: Graph, nodes: Sequence[Node], region: set[int], source: int, target: int, direct: int,
        node: Node | None, depth: int, nested: int,
    ) -> list[Element]:  # fmt: skip
        """What is between two cuts, and the second of them."""
        components = graph.components(region)
        if len(components) + direct > 1 and nested < NESTED:
            branches = [
                self._between(graph, nodes, sorted(c), source, target, depth, nested + 1) for c in components
            ] + [Chain(())] * direct
            if isinstance(node, Group) and self._opens(node, depth):
                return [Branches(tuple(branches), None), *self._element(node, depth)]
            return [Branches(tuple(branches), node)]
        found: list[Element] = []
        if components:
            inner = sorted(region)
            places = {n: i for i, n in enumerate(inner)} | {source: ENTRY, target: EXIT}
            edges = [
                (places[a], places[b]) for b in [*inner, target] for a in graph.before_edge[b]
                if a in places and b in places and (a in region or b in region)
            ]  # fmt: skip
            found.append(Tangle(tuple(nodes[n] for n in inner), tuple(edges)))
        return found + (self._element(node, depth) if node is not None else [])

    def _opens(self, group: Group, depth: int) -> bool:
        return (depth > 0 or not group.block) and self._simple(group)

    def _element(self, node: Node, depth: int) -> list[Element]:
        if not isinstance(node, Group):
            return [node]
        if not self._opens(node, depth):
            return [Block((node,), None)]
        return [Block((node,), self.inside(node, depth - bool(node.block)))]


def _blocks(parts: Sequence[Part]) -> Iterator[str]:
    """The names of the blocks that are called, once for each call."""
    for part in parts:
        if isinstance(part, Group):
            yield part.block
            yield from _blocks(part.parts)


def _taken(node: Node) -> tuple[Tensor, ...]:
    """What flows into a node, twice where it is taken twice by one layer (`x + x`)."""
    if isinstance(node, Group):
        return entries(node)
    if isinstance(node, Unit):
        own = {id(call) for call in node.calls}
        return tuple(t for call in node.calls for t in call.inputs if id(t.producer) not in own)
    return () if isinstance(node.port, NetworkInput) else (node.port.tensor,)


def _repeats(elements: Sequence[Element]) -> tuple[Element, ...]:
    """Elements with equal blocks in a row made one."""
    found: list[Element] = []
    for element in elements:
        before = found[-1] if found else None
        if (
            isinstance(element, Block)
            and isinstance(before, Block)
            and signature(before.groups[0]) == signature(element.groups[0])
        ):
            found[-1] = Block(before.groups + element.groups, before.content)
        else:
            found.append(element)
    return tuple(found)


def calls(element: Element | Chain) -> tuple[LayerCall, ...]:
    """Every layer call that an element stands for, those of repeated and closed blocks included."""
    match element:
        case Chain():
            return tuple(c for e in element.elements for c in calls(e))
        case Block():
            return tuple(c for g in element.groups for c in g.calls)
        case Branches():
            joined = element.join.calls if element.join is not None else ()
            return (*(c for b in element.branches for c in calls(b)), *joined)
        case Tangle():
            return tuple(c for n in element.nodes for c in n.calls)
    return element.calls
