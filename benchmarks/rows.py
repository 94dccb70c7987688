"""The rows of the benchmark, and the goals that they are held to."""

from __future__ import annotations

from dataclasses import dataclass

from networks import NETS, Net


@dataclass(frozen=True)
class Row:
    """One comparison: a network, a batch, and what is done: "forward", "train", or "avx2" (forward for x86-64-v3)."""

    net: str
    kind: str
    batch: int

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return f"{self.net}-{self.kind}-{self.batch}"

    @property
    def network(self) -> Net:
        """The network."""
        return NETS[self.net]

    @property
    def title(self) -> str:
        """What reports call it."""
        return f"{self.network.name}, batch of {self.batch}"


_FORWARD = ("lenet5", "alexnet", "vgg16", "googlenet", "resnet18", "resnet50")
_TRAIN = (
    ("lenet5", 64),
    ("lenet5", 256),
    ("alexnet", 16),
    ("googlenet", 8),
    ("resnet18", 8),
    ("resnet50", 4),
    ("resnet20", 128),
    ("vgg16", 4),
)

ROWS = {
    row.name: row
    for row in (
        *(Row(net, "forward", batch) for batch in (1, 8) for net in _FORWARD),
        *(Row(net, "train", batch) for net, batch in _TRAIN),
        Row("resnet18", "avx2", 1),
    )
}

BEST, NCNN, ALL, PYTORCH = "PyTorch, ONNX Runtime, OpenVINO", "ncnn", "all", "PyTorch"
"""Groups of peers: a goal is about the best of one."""


@dataclass(frozen=True)
class Goal:
    """How many times faster than the best of a group dlc has to be."""

    group: str
    times: float


_ONE = {  # against the best of PyTorch, ONNX Runtime and OpenVINO, and against ncnn
    "lenet5": (2.5, 3.0),
    "alexnet": (1.4, 2.5),
    "vgg16": (2.4, 1.1),
    "googlenet": (1.5, 1.25),
    "resnet18": (1.6, 1.25),
    "resnet50": (1.3, 1.2),
}

ERROR = 1e-4
"""The largest relative error of a forward call against float64."""

PEER_ERRORS = {"ncnn": 2e-3}
"""What results of peers may be off by where it is not ERROR: ncnn keeps numbers in 16 bits unless told not to."""

MEMORY = 0.8
"""The largest part of PyTorch's peak memory that a training step may take."""

COMPILE = {"cold": 10.0, "cached": 0.5}
"""Seconds in which `dlc compile` of ResNet-50 has to be done."""


def goals(row: Row) -> tuple[Goal, ...]:
    """What a row's times are held to; none for a row that is only reported."""
    if row.kind == "train":
        return (Goal(PYTORCH, 3.0 if row.net == "lenet5" else 1.5),)
    if row.kind == "forward" and row.batch == 1:
        best, ncnn = _ONE[row.net]
        return Goal(BEST, best), Goal(NCNN, ncnn)
    if row.kind == "forward":
        return (Goal(ALL, 1.3),)
    return ()


def in_group(name: str, group: str) -> bool:
    """Whether a contender belongs to a group of peers."""
    if name == "dlc":
        return False
    return group == ALL or family(name) in group.split(", ")


def family(name: str) -> str:
    """The system that a contender is a variant of."""
    return next((system for system in ("PyTorch", "ncnn") if name.startswith(system)), name)
