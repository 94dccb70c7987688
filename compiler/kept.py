"""Programs that were compiled before, found by what the network is: no graph is built, no pass runs, nothing is linked."""

from __future__ import annotations

import msgspec

from dlc.compiler.choices import Choices
from dlc.compiler.codegen.cache import ALL_SOURCES, BuildOptions, version_of
from dlc.compiler.codegen.target import CpuTarget, CudaTarget
from dlc.compiler.codegen.workload import digest
from dlc.compiler.description import describe
from dlc.compiler.network import Network
from dlc.runtime.plan import Program

_KIND = "programs"


class Kept(msgspec.Struct, frozen=True):
    """A program, a shared object with its kernels, and what measurements decided about them, in words (see `Manifest`)."""

    program: Program
    code: bytes
    choices: dict[str, str] = {}


def recall(
    network: Network, target: CpuTarget | CudaTarget, batch: int | None, precision: str, options: BuildOptions
) -> Kept | None:
    """The program of a folded network as it was compiled before; None where it was not, or the entry is damaged."""
    if options.cache is None:
        return None
    content = options.cache.get(_KIND, _key(network, target, batch, precision, options.choices))
    try:
        return None if content is None else msgspec.msgpack.decode(content, type=Kept)
    except msgspec.DecodeError:
        return None


def keep(
    network: Network,
    target: CpuTarget | CudaTarget,
    batch: int | None,
    precision: str,
    options: BuildOptions,
    made: Kept,
) -> None:
    """Keeps the program of a folded network for `recall`, if all its weights can be had from the network's."""
    if options.cache is None:
        return
    known = network.parameter_specs()
    if all(spec.transform is not None or spec.name in known for spec in made.program.weights):
        options.cache.put(_KIND, _key(network, target, batch, precision, options.choices), msgspec.msgpack.encode(made))
        options.cache.trim()


def _key(network: Network, target: CpuTarget | CudaTarget, batch: int | None, precision: str, choices: Choices) -> str:
    measured = tuple(
        sorted(choices.measured.items())
    )  # all: which of them a network uses is known only when it is compiled
    return digest(bytes(describe(network)), target.identity, batch, precision, measured, version_of(ALL_SOURCES))
