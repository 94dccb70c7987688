"""The whole networks that the package onnx carries, of Caffe2's time, with weights that make a difference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dlc import importing
from dlc.importing import ImportReport

MODELS = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LINES = {
    "bvlc_alexnet": 25,
    "densenet121": 35,
    "inception_v1": 40,
    "inception_v2": 60,
    "resnet50": 40,
    "shufflenet": 40,
    "squeezenet": 30,
    "zfnet512": 25,
    "vgg19": 35,
}
"""So many lines may the specs have at most."""

CASES = [pytest.param(name, marks=pytest.mark.slow) if name == "vgg19" else name for name in LINES]


def with_weights(name: str, path: Path) -> Path:
    """A light model, whose weights are all one number, with random ones of a size that keeps activations in bounds.

    The last softmax goes, so that results are compared before it flattens them.
    """
    model = onnx.load(MODELS / f"light_{name}.onnx")
    graph, generator = model.graph, np.random.default_rng(0)
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    scales = {n.input[i] for n in graph.node if n.op_type == "BatchNormalization" for i in (1, 4)}
    scales |= {n.input[0] for n in graph.node if n.op_type == "Unsqueeze" and n.input[0].endswith("_w_0")}
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape, output = shapes[node.input[0]], node.output[0]
        if output in scales:
            array = generator.uniform(0.5, 1.2, shape)
        else:
            spread = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
            array = generator.standard_normal(shape) * spread
        graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), output))
    if kept[-1].op_type == "Softmax":
        graph.output[0].name = kept.pop().input[0]
    del graph.node[:]
    graph.node.extend(kept)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", CASES)
def test_a_network_of_the_onnx_package_is_imported(
    name: str, tmp_path: Path, error_of: Callable[[Path, ImportReport], float]
) -> None:
    path = with_weights(name, tmp_path / "net.onnx")

    report = importing.import_onnx(path, tmp_path / "net")

    assert error_of(path, report) < 1e-4
    assert report.lines <= LINES[name]


@pytest.mark.parametrize("name", ["squeezenet", "resnet50", "inception_v1", "densenet121", "shufflenet"])
def test_the_spec_reads_as_a_person_writes(name: str, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    report = importing.import_onnx(MODELS / f"light_{name}.onnx", tmp_path / "net")

    golden(report.spec.read_text(encoding="utf-8"), f"importing/{name}.dlspec")
