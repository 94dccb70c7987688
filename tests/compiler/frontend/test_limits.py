"""Evaluation ends, whatever a spec asks for, and says which limit it has passed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dlc.compiler.errors import Diagnostic
from dlc.compiler.frontend.limits import DEFAULT

Mistakes = Callable[..., list[Diagnostic]]


def _net(chain: str, blocks: str = "") -> str:
    return f"{blocks}\nmodel Net {{\n    input image: [3, 32, 32]\n    image -> {chain} -> output y\n}}\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (_net("B", "block B = relu -> B"), "E0901"),
        (_net("A", "block A = B\nblock B = A"), "E0901"),
        (_net("A(x => x)", "block A(f) = A(y => f(f(y)))"), "E0901"),
        (_net("(f => f(f))(f => f(f))"), "E0902"),
        ("model A = A\n", "E0901"),
        (_net("chain([relu for a in 0..99_999 for b in 0..99_999 if a + b < 0])"), "E0903"),
        (_net("repeat(10**12, relu)"), "E0904"),
        (_net("repeat(99, repeat(99, repeat(99, i => relu)))"), "E0904"),
        (_net("repeat(99, i => repeat(99, j => relu))"), "E0904"),
        (_net("A", "block A(n = 99) = relu if n == 0 else fork(A(n - 1), A(n - 1)) -> add"), "E0901"),
        (_net("A", "block A(n = 50) = relu if n == 0 else fork(A(n - 1), A(n - 1)) -> add"), "E0904"),
        (_net("upsample(2**20)"), "E0905"),
        ("model Net {\n    input x: [10**12]\n    x -> relu -> output y\n}\n", "E0905"),
        ("model Net {\n    input x: [10**8]\n    x -> linear(10**9) -> output y\n}\n", "E0906"),
        (_net("chain([relu for i in 0..10**12])"), "E0907"),
        (_net("conv(len([1] * 10**9), 1)"), "E0907"),
        (_net("conv(sum(range(10**15)), 1)"), "E0907"),
        (_net("conv(len(0..10**30), 1)"), "E0907"),
        (_net("conv(10**10**10, 1)"), "E0908"),
        (_net("conv(2**(10**9), 1)"), "E0908"),
        (_net("conv((-3)**(10**30), 1)"), "E0908"),
        (_net("conv(10**20 * 10**20, 1)"), "E0908"),
        (_net('conv(len("a" * 10**9), 1)'), "E0909"),
        (_net('conv(len("a" + "b" * 10_000), 1)'), "E0909"),
    ],
)  # fmt: skip
def test_each_limit_has_its_own_error(mistakes: Mistakes, text: str, code: str) -> None:
    assert [d.code for d in mistakes(text)] == [code]


def test_deep_expressions_within_the_limits_evaluate(checked: Callable[..., object]) -> None:
    checked(_net("A(60)", "block A(n) = relu if n == 0 else ((((((A(n - 1))))))) -> relu -> tanh"))


def test_a_small_limit_is_kept(mistakes: Mistakes) -> None:
    found = mistakes(_net("repeat(4, relu)"), limits=replace(DEFAULT, layers=3))

    assert [d.code for d in found] == ["E0904"]


def test_the_number_of_diagnostics_is_bounded(mistakes: Mistakes) -> None:
    chain = " -> ".join(f"oops{i}" for i in range(90))
    other = chain.replace("oops", "other")
    found = mistakes(_net(chain) + _net(other).replace("Net", "Net2"))

    assert len(found) == DEFAULT.errors
