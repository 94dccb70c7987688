"""Using compiled models: classify files, error on a data set, targets."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dlc.api import vocabulary
from dlc.compiler.errors import DlcError
from dlc.loading import load, load_dense
from dlc.runtime.atomic import read_fault
from dlc.runtime.data.resize import Resize
from dlc.runtime.data.sources.base import Source, Split
from dlc.runtime.device import cuda_device, machine, require_device
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.names import suggest
from dlc.runtime.plan import TensorSpec
from dlc.runtime.session import Results, Session
from dlc.runtime.softmax import softmax
from dlc.runtime.training.evaluate import evaluate as measure
from dlc.runtime.training.metrics.error import Error


@dataclass(frozen=True)
class Evaluation:
    """`test_error` (0 to 1) of a model on `images` test samples of a source."""

    test_error: float
    images: int
    source: str
    seconds: float


def evaluate(
    artifact: str | Path,
    *,
    data: Path | None = None,
    source: str | None = None,
    batch: int = 256,
    threads: int | None = None,
    dense: tuple[int, int] | None = None,
    flip: bool = False,
) -> Evaluation:
    """The error of a compiled model on the test part of a data set, by default the one it was trained on.

    With `dense`, that of the network at every place of images of this size (height, width), and with `flip` the mean over
    their mirror images too; by default as the training data's section says. Raises RuntimeFault where the artifact names no
    source, or the samples do not fit the model, DlcError where the network cannot be evaluated densely.
    """
    net = load(artifact, threads)
    chosen = _source(net, source)
    rule = net.manifest.preprocessing
    if rule is None:
        raise RuntimeFault(
            "R0210", f"{artifact} says nothing about preprocessing", help="only models trained by `dlc train` do"
        )
    if dense is not None:
        _require_larger(dense, rule.window)
        rule = msgspec.structs.replace(rule, dense=dense, mirrored=flip)
    if rule.dense is not None:
        rule.resized(*rule.dense)  # whether normalisation allows it
        net = load_dense(artifact, rule.dense, threads)
    size = Resize(*(rule.dense or (rule.height, rule.width)), rule.fit)
    dataset = chosen.load(data, size)
    images = dataset.test.images
    if images.shape[1] != rule.channels:
        raise RuntimeFault(
            "R0302",
            f"the model takes images of {rule.channels} channels, the source {chosen.keyword} has {images.shape[1]}",
        )
    split = Split(size(images), dataset.test.labels)
    started = time.perf_counter()
    found = measure(lambda x: _scores(net(x)), split, rule, (Error(),), batch=batch)
    return Evaluation(found["error"], len(split.labels), chosen.keyword, time.perf_counter() - started)


def _require_larger(size: tuple[int, int], window: tuple[int, int]) -> None:
    if size[0] < window[0] or size[1] < window[1] or size == window:
        raise RuntimeFault(
            "R0315",
            f"dense evaluation needs images larger than the {window[0]}x{window[1]} that the network sees, "
            f"not {size[0]}x{size[1]}",
        )


def _source(net: Session, keyword: str | None) -> Source:
    sources = vocabulary().sources
    facts = dict(net.manifest.source)
    if keyword is not None:
        facts = {"keyword": keyword}
    if not facts:
        raise RuntimeFault(
            "R0212", "the artifact does not say what data it was trained on", help="name it: --source mnist --data DIR"
        )
    name = str(facts.pop("keyword"))
    if name not in sources:
        raise RuntimeFault("R0213", f"there is no data source {name!r}", help=suggest(name, list(sources)))
    made: Source = sources[name](**facts)
    return made


def _scores(result: np.ndarray | Results) -> np.ndarray:
    return result if isinstance(result, np.ndarray) else next(iter(result.values()))


def run(
    artifact: str | Path, file: Path, *, top: int = 5, size: tuple[int, int] | None = None, threads: int | None = None
) -> list[list[dict[str, Any]]]:
    """The most probable classes of each sample in a file, best first: dictionaries of index, name, probability and score.

    The file is an image, or an .npy or .npz file: float32 arrays of the input's shape go in as they are, uint8 images are
    preprocessed as the training data was, but resized to `size` (height, width) where given. Raises RuntimeFault for what
    cannot be read or does not fit.
    """
    net = load(artifact, threads)
    inputs = _inputs(net, file, size)
    scores = np.asarray(_scores(net(*inputs)), np.float64)
    if scores.ndim != 2:
        raise RuntimeFault(
            "R0214",
            f"the model's output has shape {list(scores.shape)}: it does not classify",
            help="call it from Python",
        )
    if scores.shape[1] == 1:
        raise RuntimeFault(
            "R0214", "the model's output is one number: it does not classify", help="call it from Python"
        )
    shares = _probabilities(scores)
    return [
        [
            {"index": int(c), "name": _class_name(net, int(c)), "probability": float(row[c]), "score": float(raw[c])}
            for c in np.argsort(-row, kind="stable")[:top]
        ]
        for row, raw in zip(shares, scores, strict=True)
    ]


def _probabilities(scores: np.ndarray) -> np.ndarray:
    """The softmax of each row; rows that are probabilities already, of a network that ends with softmax, as they are."""
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-4):
        return scores
    return softmax(scores)


def _class_name(net: Session, index: int) -> str:
    return net.classes[index] if index < len(net.classes) else str(index)


def _inputs(net: Session, file: Path, size: tuple[int, int] | None) -> list[np.ndarray]:
    if file.suffix not in (".npy", ".npz"):
        return [net.preprocess(file, size)]
    try:
        content = np.load(file, allow_pickle=False)
        arrays = {"": content} if isinstance(content, np.ndarray) else {name: content[name] for name in content.files}
    except OSError as error:
        raise read_fault(file, error) from error
    except Exception as error:  # numpy raises many kinds for a damaged file: zlib's, zipfile's, ValueError, EOFError
        raise RuntimeFault(
            "R0215", f"{file} cannot be read as {file.suffix}: {error}", help="write it with numpy.save or numpy.savez"
        ) from error
    if len(net.inputs) == 1 and len(arrays) == 1:
        return [_fitted(net, net.inputs[0], next(iter(arrays.values())), size)]
    missing = [spec.name for spec in net.inputs if spec.name not in arrays]
    if missing:
        raise RuntimeFault(
            "R0216",
            f"{file} has no array {missing[0]!r}",
            help=f"it holds {', '.join(n or 'one array without a name' for n in arrays) or 'nothing'}",
        )
    return [arrays[spec.name] for spec in net.inputs]


def _fitted(net: Session, spec: TensorSpec, array: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    if array.dtype == np.uint8 and net.manifest.preprocessing is not None:
        return net.preprocess(array, size)
    if array.ndim == len(spec.shape) - 1:
        return array[None]
    return array


def targets() -> list[dict[str, Any]]:
    """What this machine can compile for and run: name, compiles, runs, reason."""
    from dlc.compiler.codegen.target import TARGETS

    found = []
    for name, meaning in TARGETS.items():
        compiles, reason = _compiles(name)
        runs, why = _runs_on_gpu(name) if name.startswith("cuda") else _runs(name)
        reason = "; ".join(filter(None, [reason, why]))
        found.append({"name": name, "meaning": meaning, "compiles": compiles, "runs": runs, "reason": reason})
    return found


def _runs_on_gpu(name: str) -> tuple[bool, str]:
    """Whether programs for a GPU run here, and why not: no driver, an old GPU, or no CUDA runtime."""
    from dlc.runtime.library import cuda_libraries

    found = cuda_device()
    if not found.available:
        return False, found.detail
    try:
        require_device("cuda", "" if name == "cuda:sm_NN" else name)
        cuda_libraries()
    except RuntimeFault as fault:
        return False, "; ".join(filter(None, [fault.message, fault.help]))
    return True, ""


def _compiles(name: str) -> tuple[bool, str]:
    """Whether the packages and the linker that a target needs are installed, and the command that installs them if not."""
    if not name.startswith("cuda"):
        return _links(name)
    for package in ("cuda.bindings.nvfatbin", "nvidia.cu13"):
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return False, "pip install 'dlc[cuda]' brings the compiler"
    return _links("x86-64-v3")  # the code that launches kernels is linked for such a processor


def _links(name: str) -> tuple[bool, str]:
    from dlc.compiler.codegen.linker import linker
    from dlc.compiler.codegen.target import CpuTarget, Target

    target = Target.parse("cpu" if name == "cpu:NAME" else name)
    assert isinstance(target, CpuTarget)  # the names that start with cuda are asked for elsewhere
    try:
        linker(target)
    except DlcError as error:
        return False, "; ".join(f"{d.message}: {d.help}" for d in error.diagnostics)
    return True, ""


def _runs(name: str) -> tuple[bool, str]:
    """Whether programs for a processor run here, and why not or on what condition."""
    from dlc.runtime.device import cpu_features

    if name == "cpu":
        return True, ""
    if name == "cpu:NAME":
        return True, "where this processor can do what NAME can"
    kind = "aarch64" if name == "aarch64" else "x86_64"
    if machine() != kind:
        return False, f"this machine is {machine()}"
    needed = {"x86-64-v3": ("avx2", "fma"), "x86-64-v4": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")}
    have = cpu_features() or frozenset()
    missing = [feature for feature in needed.get(name, ()) if feature not in have]
    return not missing, f"this processor lacks {', '.join(missing)}" if missing else ""
