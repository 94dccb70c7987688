"""Looking at a recipe's data: counts and normalisation, and a sheet of samples as training sees them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlc.api import Settings, recipe_of
from dlc.compiler.recipe import Recipe
from dlc.data import load_data
from dlc.runtime.atomic import replace_file
from dlc.runtime.data.augment import Augmenter
from dlc.runtime.data.prepare import Prepared
from dlc.runtime.data.preprocessing import Normalizer
from dlc.runtime.data.sources.base import Split
from dlc.runtime.data.streams import permutation
from dlc.runtime.errors import RuntimeFault

COLUMNS, EPOCHS = 10, 5
"""Samples on a sheet, and how often each is augmented."""

GAP, EDGE = 2, 12
"""Pixels between the pictures, and how wide each is at least."""


@dataclass(frozen=True)
class Part:
    """The training, validation or test part: how many samples, and the fewest and most of a class."""

    name: str
    samples: int
    fewest: int
    most: int


@dataclass(frozen=True)
class DataReport:
    """What `dlc data` tells. `shape` is what the network sees; `mean` and `std` are in units of 0 to 1."""

    recipe: str
    source: str
    parts: tuple[Part, ...]
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: tuple[str, ...]
    picture: Path | None


def look(
    spec: str | Path,
    *,
    recipe: str | None = None,
    data: Path | None = None,
    settings: Settings = (),
    picture: Path | None = None,
) -> DataReport:
    """Reads the data of a recipe of a spec file, or of its first, and draws samples of it into `picture`, a PNG file.

    Raises DlcError and RuntimeFault for the user's mistakes, as training does.
    """
    if picture is not None and picture.suffix.lower() != ".png":
        raise RuntimeFault(
            "R0110", f"{picture} is no PNG file", help=f"pictures are written as PNG: {picture.with_suffix('.png')}"
        )
    plan = recipe_of(spec, recipe, settings)
    prepared = load_data(plan, data)
    if picture is not None:
        write_sheet(picture, sheet(plan, prepared))
    rule = prepared.preprocessing
    parts = [("training", prepared.train), ("validation", prepared.validation), ("test", prepared.test)]
    return DataReport(
        plan.name,
        plan.data.source.keyword,
        tuple(_part(name, split, len(prepared.classes)) for name, split in parts if split is not None),
        prepared.classes,
        (rule.channels, *rule.window),
        rule.mean,
        rule.std,
        prepared.notes,
        picture,
    )


def _part(name: str, split: Split, classes: int) -> Part:
    counts = np.bincount(split.labels, minlength=classes)
    return Part(name, len(split.labels), int(counts.min()), int(counts.max()))


def sheet(recipe: Recipe, prepared: Prepared) -> np.ndarray:
    """Samples side by side, uint8 [height, width, channels]: the first row as they are, below it as epochs augment them.

    Ten samples of the first epoch's order, of ten classes where there are as many; values are those before normalisation.
    """
    split, seed = prepared.train, recipe.seed
    order = permutation(seed, 0, len(split.labels))
    _, first = np.unique(split.labels[order], return_index=True)
    chosen = order[np.concatenate([first, np.setdiff1d(np.arange(len(order)), first)])[:COLUMNS].astype(np.int64)]
    images, labels = split.images[chosen], split.labels[chosen]
    white = 255.0 if images.dtype == np.uint8 else 1.0
    channels = images.shape[1]
    plain = Normalizer(np.full((channels, 1, 1), 1 / white, np.float32), np.zeros((channels, 1, 1), np.float32))
    augmenter = Augmenter(recipe.data.augment, split.images, plain, batch=len(chosen), seed=seed)
    rows = [images / np.float32(white)]
    for epoch in range(EPOCHS):
        begun = augmenter.begin(labels, chosen, epoch, augmenter.places(chosen, epoch))
        rows.append(augmenter.finish(begun)[0])
    return _joined(rows)


def _joined(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of images [n, c, h, w], 0 to 1, on white; small images are enlarged, each pixel to a square."""
    factor = max(1, -(-EDGE * 4 // max(rows[0].shape[2:])))
    height = sum(row.shape[2] * factor + GAP for row in rows) + GAP
    width = max(len(row) * (row.shape[3] * factor + GAP) for row in rows) + GAP
    canvas = np.full((height, width, rows[0].shape[1]), 255, np.uint8)
    top = GAP
    for row in rows:
        left = GAP
        for image in row:
            pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
            large = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
            canvas[top : top + large.shape[0], left : left + large.shape[1]] = large
            left += large.shape[1] + GAP
        top += row.shape[2] * factor + GAP
    return canvas


def write_sheet(path: Path, canvas: np.ndarray) -> None:
    """Writes pixels [height, width, 1 or 3 channels] as PNG. Raises RuntimeFault where that fails or channels are others."""
    from PIL import Image  # 50 ms that nothing else here needs

    if canvas.shape[2] not in (1, 3):
        raise RuntimeFault("R0311", f"images of {canvas.shape[2]} channels cannot be drawn: a picture has 1 or 3")
    with replace_file(path) as file:
        Image.fromarray(canvas[..., 0] if canvas.shape[2] == 1 else canvas).save(file, "PNG")
