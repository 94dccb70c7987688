"""A recipe with every default filled in, as plain data: what recipe.json keeps."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from dlc.api import describe
from dlc.compiler.network import Network
from dlc.compiler.recipe import Recipe


def resolved(recipe: Recipe) -> dict[str, Any]:
    """Every setting of a recipe and of its data section, defaults included."""
    data = recipe.data
    return {
        "model": {
            "name": recipe.network.name,
            "inputs": {i.name: list(i.shape) for i in recipe.network.inputs},
            "outputs": {o.name: list(o.tensor.shape) for o in recipe.network.outputs},
            "digest": digest(recipe.network),
        },
        "data": {
            "name": data.name,
            "source": plain(data.source),
            "validate": data.validate,
            "resize": data.resize,
            "normalize": data.normalize,
            "augment": plain(data.augment),
        },
        "loss": [{**plain(t.loss), "output": t.output, "weight": t.weight} for t in recipe.losses],
        "optimizer": [{**plain(g.optimizer), "for": g.pattern} for g in recipe.optimizers],
        "schedule": plain(recipe.schedules),
        "regularize": [
            {"keyword": r.kind, "rate": r.rate, "except": r.excluded, "for": r.pattern} for r in recipe.regularizers
        ],
        "init": [{**plain(g.initializer), "for": g.pattern} for g in recipe.init] or [{"keyword": "he", "for": None}],
        "init_from": recipe.init_from,
        "batch": recipe.batch,
        "accumulate": recipe.accumulate,
        "memory": recipe.memory,
        "average": plain(recipe.average),
        "precision": recipe.precision,
        "epochs": recipe.epochs,
        "steps": recipe.steps,
        "stop": plain(recipe.stop),
        "metrics": plain(recipe.metrics),
        "watch": plain(recipe.watch),
        "seed": recipe.seed,
    }


def digest(network: Network) -> str:
    """What tells one network from another: layers, their arguments, their connections and names."""
    return hashlib.sha256(describe(network).encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """What a recipe holds as JSON has it: members of catalogs as {"keyword": …, arguments}, durations as "2 epochs"."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    item: Any = value
    fields = {f.name.rstrip("_"): plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if fields.keys() == {"amount", "unit"}:
        return f"{item.amount:g} {item.unit}" + ("" if item.amount == 1 else "s")
    if fields.keys() == {"monitor", "relation", "bound"}:
        return f"{item.monitor} {item.relation} {item.bound:g}"
    return {"keyword": value.keyword, **fields} if hasattr(value, "keyword") else fields
