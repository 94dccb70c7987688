"""What the tests of importing share: ONNX models made of a few nodes, and what ONNX Runtime and dlc make of a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from dlc import api, importing
from dlc.compiler.build import build_inference
from dlc.compiler.interpret import interpret
from dlc.importing import ImportReport
from dlc.runtime.weights import load_weights

Arrays = Mapping[str, np.ndarray]


@pytest.fixture
def onnx_file(tmp_path: Path) -> Callable[..., Path]:
    """`onnx_file([node, …], {"w": array}, [3, 8, 8], opset=20)`: a file of a graph from `x` to `y`; sizes may be names."""

    def write(
        nodes: Sequence[onnx.NodeProto],
        weights: Arrays | None = None,
        shape: Sequence[int | str] = (3, 8, 8),
        *,
        opset: int = 20,
        batch: int | str = "batch",
    ) -> Path:
        tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in (weights or {}).items()]
        graph = helper.make_graph(
            list(nodes),
            "net",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, *shape])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
            tensors,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        path = tmp_path / "net.onnx"
        onnx.save(model, path)
        return path

    return write


@pytest.fixture
def error_of() -> Callable[[Path, ImportReport], float]:
    """How far an imported model is from ONNX Runtime's result of its file, as a part of the largest value."""

    def compare(path: Path, report: ImportReport) -> float:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        network = api.one_network(report.spec)
        generator = np.random.default_rng(0)
        fixed = [i.shape[0] if isinstance(i.shape[0], int) else 2 for i in session.get_inputs()]
        samples = [
            generator.standard_normal((n, *i.shape), np.float32) for n, i in zip(fixed, network.inputs, strict=True)
        ]
        theirs = session.run(None, {i.name: s for i, s in zip(session.get_inputs(), samples, strict=True)})
        feeds = {i.name: s for i, s in zip(network.inputs, samples, strict=True)}
        ours, _ = interpret(build_inference(network), {**load_weights(report.weights), **feeds})
        pairs = zip(ours.values(), theirs, strict=True)
        assert [a.shape for a in ours.values()] == [b.shape for b in theirs]
        return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)

    return compare


@pytest.fixture
def stages(tmp_path: Path, error_of: Callable[[Path, ImportReport], float]) -> Callable[[Path], str]:
    """The one chain of a small imported model, without labels; it has to compute what ONNX Runtime does."""

    def read(path: Path) -> str:
        report = importing.import_onnx(path, tmp_path / "imported", force=True)
        assert error_of(path, report) < 1e-5
        text = report.spec.read_text(encoding="utf-8")
        body = text.split("\n    x\n")[1].split("-> output y")[0]
        return re.sub(r"\w+: ", "", " ".join(body.split()).removeprefix("-> ").strip())

    return read
