"""The contenders of a training step: forward, backward and the update of SGD with momentum, on the same images and weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from networks import HEAD, Net

RATE, MOMENTUM = 1e-5, 0.9

Step = Callable[[], float]

RECIPE = """
import "{spec}.dlspec" as net

data random {{
    source folder
    resize {size}
}}

train Step {{
    model     net.{model}
    data      random
    loss      {loss}
    optimizer sgd(lr={rate}, momentum={momentum})
    batch     {batch}
    epochs    1
    precision {precision}
}}
"""


def prepare(net: Net, folder: Path) -> None:
    """Writes the weights that all start from."""
    from modules import make_weights

    make_weights(net, folder / "weights.safetensors", training=True)


def ours(
    net: Net, batch: int, folder: Path, threads: int, *, dropless: bool = False, precision: str = "float32"
) -> Step:
    """dlc's step, compiled here; it gives the loss. `dropless` leaves dropout out, so that losses can be compared."""
    from dlc import api
    from dlc.compiler.codegen.cache import BuildOptions, user_cache
    from dlc.runtime.weights import load_weights
    from dlc.training import TrainingSession

    model = net.dropless if dropless and net.dropless else net.model
    heads = "".join(f" + {HEAD} * cross_entropy({head})" for head in net.heads)
    spec = folder / f"step-{batch}{'-dropless' if dropless else ''}.dlspec"
    spec.write_text(
        RECIPE.format(
            spec=net.spec,
            size=net.shape[1],
            model=model,
            loss=f"cross_entropy(logits){heads}" if heads else "cross_entropy",
            rate=RATE,
            momentum=MOMENTUM,
            batch=batch,
            precision=precision,
        )
    )
    session = TrainingSession(api.recipe_of(spec), threads=threads, options=BuildOptions(user_cache()))
    session.set_weights(load_weights(folder / "weights.safetensors", mapped=True))
    known: dict[str, Any] = {
        "train.labels": net.labels(batch),
        "train.rate.0": np.float32(RATE),
        "train.step": np.uint32(0),
        "train.seed": np.uint32(0),
    }
    images = net.images(batch)
    feeds = {spec.name: known.get(spec.name, images) for spec in session.step.program.inputs}
    return lambda: float(session.step.run(feeds)["train.loss"])


def pytorch(
    net: Net, batch: int, folder: Path, threads: int, *, last: bool, compiled: bool = False, dropless: bool = False
) -> Step:
    """PyTorch's step, channels first or last, eager or through `torch.compile`; it gives the loss."""
    import torch
    from modules import load
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    layout = torch.channels_last if last else torch.contiguous_format
    module = load(net, folder / "weights.safetensors", training=True).to(memory_format=layout)
    if dropless:
        for layer in (m for m in module.modules() if isinstance(m, nn.Dropout)):
            layer.p = 0.0
    module.requires_grad_(True)
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM)
    x = torch.from_numpy(net.images(batch)).to(memory_format=layout)
    y = torch.from_numpy(net.labels(batch)).long()
    forward = torch.compile(module) if compiled else module

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        answers = forward(x)
        loss = F.cross_entropy(getattr(answers, "logits", answers), y)
        for head in net.heads:
            loss = loss + HEAD * F.cross_entropy(getattr(answers, head.replace("aux", "aux_logits")), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
