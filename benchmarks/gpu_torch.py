"""PyTorch's side of the comparison on GPUs: the same networks, channels last, tf32 allowed, cuDNN free to choose by trying."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

NAMES = {
    "ResNet18": "resnet18",
    "ResNet50": "resnet50",
    "VggD": "vgg16",
    "GoogLeNet": "googlenet",
    "AlexNet": "alexnet",
}
"""torchvision's names of our models."""

_HEAD = 0.3  # what the loss at each of GoogLeNet's auxiliary outputs counts

Median = Callable[[Callable[[], object]], float]


def torch_or_none() -> Any | None:
    """PyTorch, if it is here and sees a GPU."""
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def network(torch: Any, name: str, *, heads: bool = False) -> Any | None:
    """The network like one of ours, without dropout, None where there is none. `heads`: with outputs that only training has."""
    if name == "LeNet5":
        n = torch.nn
        return n.Sequential(
            n.Conv2d(1, 6, 5), n.Tanh(), n.AvgPool2d(2), n.Conv2d(6, 16, 5), n.Tanh(), n.AvgPool2d(2), n.Flatten(),
            n.Linear(400, 120), n.Tanh(), n.Linear(120, 84), n.Tanh(), n.Linear(84, 10),
        )  # fmt: skip
    if name not in NAMES:
        return None
    import torchvision

    more = {"aux_logits": heads, "init_weights": False} if name == "GoogLeNet" else {}
    made = getattr(torchvision.models, NAMES[name])(weights=None, **more)
    for module in made.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return made


def measure(torch: Any, name: str, batches: Sequence[int], way: str, median: Median) -> list[dict[str, Any]]:
    """Seconds of forward calls and of a training step by precision; `way` is "eager" or "compiled"."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    rows: list[dict[str, Any]] = []
    shape = (1, 32, 32) if name == "LeNet5" else (3, 224, 224)
    for kind in ("tf32", "fp16"):
        net = network(torch, name)
        if net is None:
            return rows
        last = torch.channels_last
        net = net.cuda().eval().to(memory_format=last)
        net = net.half() if kind == "fp16" else net
        call = torch.compile(net) if way == "compiled" else net
        row: dict[str, Any] = {"model": name, "way": way, "precision": kind, "forward": {}}
        for batch in batches:
            x = torch.randn(batch, *shape, device="cuda").to(memory_format=last)
            x = x.half() if kind == "fp16" else x

            def forward(call: Any = call, x: Any = x) -> None:
                with torch.inference_mode():
                    call(x)
                torch.cuda.synchronize()

            row["forward"][batch] = median(forward)
        row["step"] = _step(torch, name, way, kind, shape, median)
        rows.append(row)
    step = _step(torch, name, way, "bf16", shape, median)
    return [*rows, {"model": name, "way": way, "precision": "bf16", "forward": {}, "step": step}]


def _step(torch: Any, name: str, way: str, kind: str, shape: tuple[int, ...], median: Median, batch: int = 64) -> float:
    net = network(torch, name, heads=True)
    assert net is not None
    net = net.cuda().train().to(memory_format=torch.channels_last)
    call = torch.compile(net) if way == "compiled" else net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    scaler = torch.amp.GradScaler("cuda", enabled=kind == "fp16")
    x = torch.randn(batch, *shape, device="cuda").to(memory_format=torch.channels_last)
    y = torch.zeros(batch, dtype=torch.int64, device="cuda")
    reduced = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(kind)

    def loss_of(outputs: Any) -> Any:
        several = outputs if isinstance(outputs, tuple) else (outputs,)
        losses = [torch.nn.functional.cross_entropy(o, y) for o in several if o is not None]
        return losses[0] + _HEAD * sum(losses[1:])

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", reduced or torch.float16, enabled=reduced is not None):
            loss = loss_of(call(x))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        torch.cuda.synchronize()

    return median(step)
