"""Prepares a folder that checks and measures dlc on a GPU, on a machine without one: compiled models and what they must give.

    python benchmarks/gpu.py FOLDER [--target cuda:sm_90] [--python 3.12] [--all] [--nets lenet5,resnet18] [--train lenet5] [--data MNIST]

There, `python FOLDER/gpu_run.py` does the rest and writes FOLDER/results.json. Weights are random numbers that both sides draw
from the same seeds, so that the folder stays small.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from gpu_run import SAMPLES, WORDS, drawn, images, placed
from networks import NETS, Net

from dlc import api
from dlc.bundling import bundle
from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.cache import BuildOptions, user_cache
from dlc.compiler.codegen.target import CpuTarget, Target
from dlc.compiler.description import describe
from dlc.compiler.folding import folding
from dlc.compiler.initial import initial_state, initial_weights
from dlc.compiler.network import Network, inference_form
from dlc.compiler.pipeline import (
    AnyTarget,
    compile_folded,
    compile_training,
    folded_graph,
    pack,
    packed,
    precision_of,
    target_spec,
)
from dlc.compiler.precision import in_precision
from dlc.runtime.arrays import aligned_copy
from dlc.runtime.artifact import Artifact, Manifest, save_artifact
from dlc.runtime.executor import Executor
from dlc.runtime.plan import Program
from dlc.runtime.transformed import transformed

_OPTIONS = BuildOptions(user_cache())


def prepare_forward(
    name: str, network: Network, target: AnyTarget, folder: Path, words: Sequence[str], *, only: bool
) -> None:
    """Writes a model's artifacts in some precisions, without weights that can be drawn there, and what they must give.

    `only`: they are compared and not measured.
    """
    network = folding(inference_form(network)).network
    weights = {name: drawn(name, spec.shape) for name, spec in network.parameter_specs(training=False).items()}
    exact = _outputs(network, weights, "float32")
    for word in words:
        precision = precision_of(word, target).name
        compiled, arrays = compile_folded(network, weights, target, precision=precision)
        file = f"{name}.{word}{'.check' if only else ''}"
        _save(folder / f"{file}.dlc", file, compiled.program, compiled.library(), arrays, target, precision=precision)
        same = _outputs(network, weights, precision) if precision == "tf32" else exact
        numbered = {f"same{i}": a for i, a in enumerate(same)} | {f"exact{i}": a for i, a in enumerate(exact)}
        np.savez(folder / f"{file}.npz", **numbered)  # type: ignore[arg-type]  # only arrays


def _outputs(network: Network, weights: Mapping[str, np.ndarray], precision: str) -> list[np.ndarray]:
    """What a processor gives for the first images, its products' factors rounded as the precision says."""
    host = _processor()
    if precision == "float32":
        compiled, arrays = compile_folded(network, weights, host, options=_OPTIONS)
    else:
        graph, constants = folded_graph(network, weights, host)
        graph = in_precision(packed(graph, host), precision)
        compiled = compile_graph(graph, host, options=_OPTIONS)
        arrays = pack(compiled, constants)
    made = transformed(compiled.program.weights, weights, {})
    arrays |= {spec.name: made[spec.transform] for spec in compiled.program.weights if spec.transform is not None}
    aligned = {name: aligned_copy(array) for name, array in arrays.items()}
    executor = Executor(compiled.program, compiled.function, aligned)
    return executor.execute([images(spec.shape, SAMPLES) for spec in compiled.program.inputs])


def prepare_training(net: Net, target: AnyTarget, folder: Path, word: str, batch: int = 64) -> None:
    """Writes one training step (SGD with momentum) of a model as an artifact. It is measured only, on drawn weights."""
    heads = "".join(f" + 0.3*cross_entropy({head})" for head in net.heads)
    spec = folder / f"{net.model}.step.dlspec"
    spec.write_text(
        f'import "{net.spec}.dlspec" as nets\nmodel Net = nets.{net.dropless or net.model}\n'
        f"data images {{ source npz\n resize {net.shape[1]} }}\ntrain Step {{ model Net\n data images\n"
        f" loss cross_entropy{'(logits)' if heads else ''}{heads}\n optimizer sgd(lr=0.01, momentum=0.9)\n"
        f" batch {batch}\n epochs 1\n precision {word} }}\n"
    )
    recipe = api.recipe_of(spec)
    compiled = compile_training(recipe, target, batch)
    _save(
        folder / f"{net.model}.{word}.step.dlc",
        net.model,
        compiled.program,
        compiled.library(),
        compiled.constants,
        target,
    )
    spec.unlink()


def prepare_epoch(target: AnyTarget, folder: Path, data: Path) -> None:
    """Writes LeNet-5's training step with its first weights, MNIST's training images, and the losses of an epoch here."""
    recipe = api.recipe_of(NETS["lenet5"].path, "LeNet5OnMnist")
    weights = {**initial_weights(recipe.network, recipe), **initial_state(recipe)}
    compiled = compile_training(recipe, target, recipe.batch)
    first = pack(compiled, weights)
    _save(folder / "epoch.dlc", "epoch", compiled.program, compiled.library(), first, target, whole=True)
    from gpu_run import epoch

    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        shutil.copy(data / name, folder)
    host = compile_training(recipe, _processor(), recipe.batch, _OPTIONS)
    arrays = {name: aligned_copy(array) for name, array in pack(host, weights).items()}
    losses = epoch(Executor(host.program, host.function, arrays).run, host.program, folder)
    np.savez(folder / "epoch.npz", losses)


def _save(
    path: Path,
    name: str,
    program: Program,
    code: bytes,
    weights: Mapping[str, np.ndarray],
    target: AnyTarget,
    *,
    whole: bool = False,
    precision: str = "float32",
) -> None:
    """Writes an artifact; of the weights only those that cannot be drawn again, unless it shall be `whole`."""
    kept = {}
    for spec in program.weights:
        if spec.name not in weights:
            continue
        if whole or not np.array_equal(placed(spec, precision), weights[spec.name]):
            kept[spec.name] = np.asarray(weights[spec.name])
    save_artifact(path, Artifact(Manifest(name, program, target_spec(target), precision=precision), code, kept))


def shipped(known: Collection[str]) -> Iterator[tuple[str, Network]]:
    """The models of the shipped specs that need no arguments, each with a name of its own, without those of known names; a
    network that two files have comes once."""
    names, networks = set(known), set()
    for path in sorted(NETS["lenet5"].path.parent.glob("*.dlspec")):
        for network in api.networks(path):
            described = bytes(describe(network))
            if described not in networks and (path.stem, network.name) not in {
                (n.spec, n.model) for n in NETS.values()
            }:
                name = f"{path.stem}-{network.name}" if network.name in names else network.name
                names.add(name)
                networks.add(described)
                yield name, network


def _processor() -> CpuTarget:
    target = Target.parse("cpu", _OPTIONS.cache)
    assert isinstance(target, CpuTarget)
    return target


def main() -> None:
    """Reads the command line and prepares the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", default="cuda:sm_90", help="cpu tries the folder out on a machine without a GPU")
    parser.add_argument("--python", help="the version of Python there, as in 3.12")
    parser.add_argument("--nets", default=",".join(NETS), help="for forward calls")
    parser.add_argument("--train", default="lenet5,resnet18,resnet50,googlenet,vgg16", help="for training steps")
    parser.add_argument("--all", action="store_true", help="compare the forward calls of every shipped model too")
    parser.add_argument("--data", type=Path, help="the folder of MNIST's files, for an epoch of training")
    options = parser.parse_args()
    target = Target.parse(options.target)
    words = [WORDS[name] for name in target.precisions if name != "bfloat16" or target.device == "cpu"]
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        wanted = [NETS[name] for name in filter(None, options.nets.split(","))]
        for net in wanted:
            network = api.one_network(net.path, model=net.model)
            prepare_forward(net.model, network, target, made, words, only=False)
            print(f"{net.name}: forward in {', '.join(words)}", flush=True)
        for name, network in shipped({net.model for net in NETS.values()}) if options.all else ():
            exact = [word for word in words if word in ("fp32", "tf32")]
            prepare_forward(name, network, target, made, exact, only=True)
            print(f"{name}: forward to compare in {', '.join(exact)}", flush=True)
        for name in filter(None, options.train.split(",")):
            for word in ("tf32", "bf16"):
                prepare_training(NETS[name], target, made, word)
                print(f"{name}: training step in {word}", flush=True)
        if options.data:
            prepare_epoch(target, made, options.data)
            print("lenet5: an epoch of training", flush=True)
        result = bundle(sorted(made.glob("*.dlc")), options.folder, python=options.python)
        for file in made.iterdir():
            if file.suffix in (".npz", ".gz"):
                shutil.copy(file, options.folder)
    for name in ("gpu_run.py", "gpu_torch.py"):
        shutil.copy(Path(__file__).with_name(name), options.folder)
    total = sum(f.stat().st_size for f in options.folder.rglob("*") if f.is_file())
    print(f"{result.folder}: {total / 2**20:.1f} MiB; there: python {result.folder.name}/gpu_run.py")


if __name__ == "__main__":
    main()
