"""Small specs to tune."""

from __future__ import annotations

from pathlib import Path

import pytest

SMALL = """model Small {
    input x: [8, 13, 11]
    x -> c1: conv(24, 3, pad=1) -> relu -> max_pool(2) -> flatten -> out: linear(10) -> output y
}

data digits {
    source    mnist-mini
    resize    12
    normalize per_channel
}

model Digits {
    input x: [1, 12, 12]
    x -> c1: conv(4, 3) -> relu -> c2: conv(5, 3) -> relu -> flatten -> linear(10) -> output y
}

train Quick {
    model     Digits
    data      digits
    loss      cross_entropy
    optimizer sgd(lr=0.05)
    batch     6
    epochs    1
}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "small.dlspec"
    path.write_text(SMALL)
    return path
