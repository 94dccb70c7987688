"""ONNX files: read, and refused where they are none."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import external_data_helper, inliner

from dlc.compiler.errors import DlcError


def read_model(path: Path) -> onnx.ModelProto:
    """The model of a file with all its weights.

    Raises DlcError for a file that cannot be read, is cut off or is no ONNX (E0870), and for weights in files beside it
    that are missing or too short (E0871).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DlcError.of("E0870", f"cannot read {path}: {error.strerror or error}") from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError, whose module has no types
        raise DlcError.of(
            "E0870", f"{path} is no ONNX file, or is cut off", help="download or export it again"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise DlcError.of("E0870", f"{path} is no ONNX file: it holds no graph", help="download or export it again")
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # a missing file, a path that leads out of the folder, a file that is too short
        message = " ".join(str(error).split())
        raise DlcError.of("E0871", f"{path} keeps weights in another file, which cannot be read: {message}") from error
    return inliner.inline_local_functions(model) if model.functions else model
