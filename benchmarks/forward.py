"""The contenders of a forward call: each is made from files in one folder, so that a fresh process can make any one alone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from networks import Net

Call = Callable[[], np.ndarray]

PEERS = ("PyTorch", "PyTorch channels last", "ONNX Runtime", "OpenVINO", "ncnn", "ncnn fp32")
"""Those made by `contender`; `torch.compile` is one more, by `compiled`."""


def prepare(net: Net, batch: int, folder: Path, target: str = "cpu", names: tuple[str, ...] = PEERS) -> None:
    """Writes what the contenders are made from: the weights, dlc's artifact, ONNX, ncnn's files (for a batch of one)."""
    import torch
    from modules import load, make_weights

    from dlc import api

    weights = folder / "weights.safetensors"
    make_weights(net, weights)

    api.compile_to_file(net.path, folder / "model.dlc", model=net.model, weights=weights, batch=batch, target=target)
    if not {"ONNX Runtime", "OpenVINO", "ncnn"} & set(names):
        return
    module, x = load(net, weights), torch.from_numpy(net.images(batch))
    if {"ONNX Runtime", "OpenVINO"} & set(names):
        torch.onnx.export(module, (x,), str(folder / "model.onnx"), dynamo=False, opset_version=18)
    if "ncnn" in names and batch == 1:
        import pnnx

        torch.jit.trace(module, x, check_trace=False).save(folder / "model.pt")
        shape = ",".join(map(str, x.shape))
        subprocess.run(
            [pnnx.EXEC_PATH, "model.pt", f"inputshape=[{shape}]", "fp16=0"],
            cwd=folder,
            check=True,
            capture_output=True,
        )


def contender(name: str, net: Net, batch: int, folder: Path, threads: int) -> Call:
    """A call of one contender on the benchmark's images, from numpy to numpy."""
    images = net.images(batch)
    match name:
        case "dlc":
            import dlc

            session = dlc.load(folder / "model.dlc", threads=threads)
            return lambda: session(images)
        case "PyTorch" | "PyTorch channels last":
            return _torch(net, images, folder, threads, last=name.endswith("last"))
        case "ONNX Runtime":
            return _onnx_runtime(images, folder, threads)
        case "OpenVINO":
            return _openvino(images, folder, threads)
        case "ncnn" | "ncnn fp32":
            return _ncnn(images, folder, threads, exact=name.endswith("fp32"))
    raise ValueError(name)


def _torch(net: Net, images: np.ndarray, folder: Path, threads: int, *, last: bool) -> Call:
    import torch
    from modules import load

    torch.set_num_threads(threads)
    layout = torch.channels_last if last else torch.contiguous_format
    module = load(net, folder / "weights.safetensors").to(memory_format=layout)
    x = torch.from_numpy(images).to(memory_format=layout)

    def call() -> np.ndarray:
        with torch.inference_mode():
            return module(x).numpy()

    return call


def compiled(net: Net, batch: int, folder: Path, threads: int, *, last: bool) -> Call:
    """`torch.compile` with the weights frozen, as PyTorch advises for inference; it compiles in the first call."""
    import torch
    import torch._inductor.config as inductor
    from modules import load

    inductor.freezing = True
    torch.set_num_threads(threads)
    layout = torch.channels_last if last else torch.contiguous_format
    module = torch.compile(load(net, folder / "weights.safetensors").to(memory_format=layout))
    x = torch.from_numpy(net.images(batch)).to(memory_format=layout)

    def call() -> np.ndarray:
        with torch.no_grad():
            return module(x).numpy()

    return call


def _onnx_runtime(images: np.ndarray, folder: Path, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: images})[0]


def _openvino(images: np.ndarray, folder: Path, threads: int) -> Call:
    import openvino

    core = openvino.Core()
    config = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(folder / "model.onnx"), "CPU", config).create_infer_request()
    return lambda: request.infer({0: images}, share_inputs=True, share_outputs=True)[0]


def openvino_convolutions(folder: Path, threads: int) -> set[str]:
    """The names of the kernels that OpenVINO chooses for convolutions: they say which instructions it uses."""
    import openvino

    core = openvino.Core()
    config = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    model = core.compile_model(core.read_model(folder / "model.onnx"), "CPU", config).get_runtime_model()
    facts = [op.get_rt_info() for op in model.get_ordered_ops()]
    return {f["primitiveType"].value for f in facts if f["layerType"].value == "Convolution"}


def _ncnn(images: np.ndarray, folder: Path, threads: int, *, exact: bool) -> Call:
    """As it comes, ncnn keeps weights and activations in 16 bits where it can; `exact`: in fp32 like all others."""
    import ncnn

    net: Any = ncnn.Net()
    net.opt.num_threads = threads
    for kind in ("fp16", "bf16") if exact else ():
        for use in ("packed", "storage", "arithmetic"):
            if hasattr(net.opt, f"use_{kind}_{use}"):
                setattr(net.opt, f"use_{kind}_{use}", False)
    net.load_param(str(folder / "model.ncnn.param"))
    net.load_model(str(folder / "model.ncnn.bin"))

    def call() -> np.ndarray:
        with net.create_extractor() as extractor:
            extractor.input("in0", ncnn.Mat(images[0]))
            _, result = extractor.extract("out0")
            return np.array(result)[None]

    return call


def exact(net: Net, batch: int, folder: Path) -> np.ndarray:
    """The answers in float64, by PyTorch."""
    import torch
    from modules import load

    module = load(net, folder / "weights.safetensors").double()
    with torch.inference_mode():
        return module(torch.from_numpy(net.images(batch)).double()).numpy()
