"""Opening artifacts with the compiler at hand: programs for images of other sizes are compiled when they are first needed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from dlc.runtime import session
from dlc.runtime.artifact import Artifact, Sizes, Variant, digest, load_artifact, save_artifact, show_sizes
from dlc.runtime.cache import cache_folder, cache_key
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.session import Session, Specialise

CACHE = "programs"


def load(path: str | Path, threads: int | None = None) -> Session:
    """Opens an artifact that `dlc compile`, `dlc train` or `Session.save` wrote. The compiler is not imported.

    Called with images of a size that the artifact has no program for, the session compiles one, if the compiler is installed
    and the network allows it. `threads` is the number of cores a call may use, None for all. Raises RuntimeFault where the
    file is missing, cut off, damaged, no artifact, of another version, or made for another machine.
    """
    return session.load(path, threads, specialiser())


def load_dense(path: str | Path, size: tuple[int, int], threads: int | None = None) -> Session:
    """Opens an artifact's network as a fully convolutional one for images of `size` (height, width), compiled now.

    Its outputs are the means over all places of an image (Simonyan and Zisserman 2015, section 3.2). Raises RuntimeFault
    where the compiler is not installed (R0218) or the file cannot be opened, DlcError where the network cannot be so used.
    """
    artifact = load_artifact(path)
    if specialiser() is None:
        raise RuntimeFault(
            "R0218",
            f"{artifact.manifest.model} has no program for dense evaluation, and without the compiler none can be made",
            help="install the compiler: pip install dlc",
        )
    from dlc.compiler.codegen.cache import BuildOptions, user_cache
    from dlc.compiler.codegen.target import Target
    from dlc.compiler.dense import fully_convolutional
    from dlc.compiler.description import network_of, weights_of
    from dlc.compiler.pipeline import make_artifact

    network, kept = network_of(artifact), user_cache()
    made = fully_convolutional(network, size)
    dense = make_artifact(
        made.network,
        made.weights(weights_of(artifact, network)),
        Target.parse(artifact.manifest.target.name, kept),
        classes=artifact.manifest.classes,
        preprocessing=artifact.manifest.preprocessing,
        source=artifact.manifest.source,
        origin=str(path),
        precision=artifact.manifest.precision,
        options=BuildOptions(kept),
    )
    return Session(dense, threads)


def specialiser() -> Specialise | None:
    """What makes programs for images of other sizes; None where the compiler is not installed."""
    return specialise if importlib.util.find_spec("tvm") is not None else None


def specialise(artifact: Artifact, sizes: Sizes) -> Variant:
    """A program for images of other sizes, over the artifact's weights.

    It is compiled once and then found in the user's cache folder. Raises RuntimeFault (R0219) where the network depends on
    the size of its images, or does not take any so small.
    """
    path = cache_folder(CACHE) / f"{cache_key(_facts(artifact, sizes))}.dlc"
    try:
        found = load_artifact(path)
        return Variant(found.manifest.program, found.code, found.weights)
    except RuntimeFault:
        pass  # it is not there yet, or not whole
    variant = _compiled(artifact, sizes)
    manifest = msgspec.structs.replace(artifact.manifest, program=variant.program, network=msgspec.Raw(b"null"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_artifact(path, Artifact(manifest, variant.code, variant.weights))
    except (OSError, RuntimeFault):
        pass  # without a cache it is compiled again the next time
    return variant


def _facts(artifact: Artifact, sizes: Sizes) -> Iterator[bytes]:
    yield msgspec.json.encode(artifact.manifest)
    yield show_sizes(sizes).encode()
    for name, array in artifact.weights.items():
        yield name.encode()
        yield digest(array.reshape(-1).view(np.uint8).data).encode()


def _compiled(artifact: Artifact, sizes: Sizes) -> Variant:
    from dlc.compiler.codegen.target import Target
    from dlc.compiler.description import folded_weights, network_of
    from dlc.compiler.errors import DlcError
    from dlc.compiler.folding import folding
    from dlc.compiler.sizes import at_sizes

    try:
        network = network_of(artifact)
        resized = at_sizes(network, sizes)
        from dlc.compiler.codegen.cache import BuildOptions, user_cache
        from dlc.compiler.pipeline import make_variant

        batch, kept = artifact.manifest.program.batch, user_cache()
        return make_variant(
            resized,
            folded_weights(artifact, folding(network).network),
            artifact.weights,
            Target.parse(artifact.manifest.target.name, kept),
            batch if batch > 0 else None,
            artifact.manifest.precision,
            BuildOptions(kept),
        )
    except DlcError as error:
        (first, *_) = error.diagnostics
        raise RuntimeFault("R0219", first.message, help=first.help) from error
