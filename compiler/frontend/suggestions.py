"""Did-you-mean: the known name that an unknown one most likely stands for."""

from __future__ import annotations

from collections.abc import Iterable

ELSEWHERE = {
    "dense": "linear", "fc": "linear", "fully_connected": "linear", "inner_product": "linear", "gemm": "linear",
    "conv2d": "conv", "convolution": "conv", "conv_transpose2d": "conv_transpose", "deconv": "conv_transpose",
    "transposed_conv": "conv_transpose", "maxpool": "max_pool", "maxpool2d": "max_pool", "max_pooling": "max_pool",
    "avgpool": "avg_pool", "avgpool2d": "avg_pool", "average_pool": "avg_pool", "mean_pool": "avg_pool",
    "gap": "global_avg_pool", "global_pool": "global_avg_pool", "bn": "batch_norm", "batchnorm2d": "batch_norm",
    "ln": "layer_norm", "gn": "group_norm", "lrn": "local_response_norm", "cat": "concat", "concatenate": "concat",
    "mul": "multiply", "view": "reshape", "skip": "residual", "swish": "silu", "parallel": "fork", "branch": "fork",
    "split": "fork", "sequential": "chain", "dropout2d": "dropout", "interpolate": "upsample",
    "softmax_cross_entropy": "cross_entropy", "ce": "cross_entropy", "kaiming": "he", "glorot": "xavier", "momentum": "sgd",
    "padding": "pad", "strides": "stride", "kernel_size": "kernel", "filters": "channels", "out_channels": "channels",
    "units": "features", "out_features": "features", "use_bias": "bias", "learning_rate": "lr", "batch_size": "batch",
    "dataset": "data", "criterion": "loss", "early_stopping": "stop", "scheduler": "schedule", "initializer": "init",
    "network": "model", "augmentation": "augment", "transforms": "augment", "validation_split": "validate",
    "max_epochs": "epochs", "random_seed": "seed", "x": "in", "input": "in", "self": "in",
}  # fmt: skip
"""What other systems call things: unknown name -> the name here, where a catalog has it."""


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` most likely stands for, None where none is near.

    In this order: equal but for case and underscores; what another system calls it; the least number of typing
    mistakes (one for every three characters at most), the alphabet deciding among equals.
    """
    names = sorted(set(candidates) - {name})
    plain = _plain(name)
    for candidate in names:
        if _plain(candidate) == plain:
            return candidate
    foreign = ELSEWHERE.get(name.lower())
    if foreign is not None and foreign in names:
        return foreign
    allowed = max(1, (len(name) + 1) // 3) if len(name) > 1 else 0
    best: tuple[int, str] | None = None
    for candidate in names:
        if len(candidate) < 2 or abs(len(candidate) - len(name)) > allowed:
            continue
        distance = mistakes(name.lower(), candidate.lower())
        if distance <= allowed and (best is None or distance < best[0]):
            best = (distance, candidate)
    if best is not None:
        return best[1]
    longer = [
        c
        for c in names
        if len(plain) >= 3 and (_plain(c).startswith(plain) or (plain.startswith(_plain(c)) and len(c) > 2))
    ]
    return min(longer, key=lambda c: (abs(len(c) - len(name)), c)) if longer else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """The help line for an unknown name; empty where nothing is near."""
    found = closest(name, candidates)
    return f"did you mean `{found}`?" if found else ""


def listing(names: Iterable[str], limit: int = 12) -> str:
    """Names as a sentence part: "`a`, `b` and `c`", cut after `limit`."""
    quoted = [f"`{n}`" for n in names]
    if len(quoted) > limit:
        return ", ".join(quoted[:limit]) + ", …"
    if len(quoted) < 2:
        return "".join(quoted)
    return ", ".join(quoted[:-1]) + " and " + quoted[-1]


def mistakes(a: str, b: str) -> int:
    """Typing mistakes between two words: characters put in, left out, replaced, or swapped with their neighbour
    (Damerau-Levenshtein, optimal string alignment)."""
    before: list[int] = []
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        current = [i]
        for j, y in enumerate(b, 1):
            cost = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, previous = previous, current
    return previous[-1]


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
