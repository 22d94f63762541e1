"""A picture of a dataset: slices of both classes as training sees them, each lesion outlined."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stroke_hub.data.contents import load_first
from stroke_hub.data.layout import CLASSES
from stroke_hub.data.masks import find_mask
from stroke_hub.data.records import Records, list_modalities
from stroke_hub.io.framing import crop, find_head
from stroke_hub.io.windowing import Grey
from stroke_hub.progress import track

__all__ = ["draw_contact_sheet"]

TILE, LINE, GAP, ACROSS = 176, 18, 8, 6
OUTLINE = (86, 180, 233)  # the colour of lesions in the figures
OF_CLASS = 12  # slices


def draw_contact_sheet(records: Records, title: str) -> Image.Image:
    """Draw slices of as many patients as there is room for, Stroke above Normal, cropped to the head.

    Raises
    ------
    DatasetError : a slice or a mask cannot be read.
    """
    table = records.table
    parts = [(label, _choose(table[table["label"] == label])) for label in CLASSES]
    down = sum(-(-len(part) // ACROSS) + 1 for _, part in parts if len(part))
    sheet = Image.new("RGB", (ACROSS * (TILE + GAP) + GAP, GAP + LINE + down * (TILE + 2 * LINE + GAP)), "black")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    draw.text((GAP, GAP), title, fill="white", font=font)
    y = GAP + 2 * LINE
    for label, part in parts:
        if part.empty:
            continue
        words = f"{CLASSES[label].capitalize()}: {len(part)} of {int((table['label'] == label).sum()):,} slices"
        draw.text((GAP, y), words, fill="white", font=font)
        y += LINE
        for place, (caption, picture) in enumerate(track(_draw_all(records, part), "drawing", total=len(part))):
            x = GAP + place % ACROSS * (TILE + GAP)
            top = y + place // ACROSS * (TILE + LINE + GAP)
            sheet.paste(picture, (x, top))
            draw.text((x, top + TILE), caption, fill="white", font=font)
        y += -(-len(part) // ACROSS) * (TILE + LINE + GAP) + GAP
    return sheet.crop((0, 0, sheet.width, y))


def _choose(part: pd.DataFrame) -> pd.DataFrame:
    """Slices of different patients, the middle one of each."""
    middle = part.groupby("group", sort=True).nth(slice(None)).groupby("group", sort=True)
    rows = [group.iloc[len(group) // 2] for _, group in middle]
    return pd.DataFrame(rows[:: max(1, -(-len(rows) // OF_CLASS))])


def _draw_all(records: Records, part: pd.DataFrame) -> Iterator[tuple[str, Image.Image]]:
    for (_, row), modality in zip(part.iterrows(), list_modalities(part), strict=True):
        path = str(row["path"])
        pixels = load_first(records.root / path, modality=modality)[0].pixels
        mask = find_mask(records.table, records.root, path)
        yield _name(row), _draw(pixels, mask if mask is not None and mask.shape == pixels.shape else None)


def _name(row: "pd.Series[Any]") -> str:
    name = str(row["scan"] if row.get("scan") else row["path"]).rpartition("/")[2]
    number = f" #{row['slice']}" if row.get("slice") else ""
    keep = 24 - len(number)
    return (name if len(name) <= keep else f"…{name[1 - keep :]}") + number


def _draw(pixels: Grey, mask: NDArray[np.bool_] | None) -> Image.Image:
    box = find_head(pixels)
    shown = Image.fromarray(crop(pixels, box))
    scale = TILE / max(shown.size)
    size = max(1, round(shown.width * scale)), max(1, round(shown.height * scale))
    picture = shown.resize(size, Image.Resampling.BILINEAR).convert("RGB")
    if mask is not None:
        lesion = Image.fromarray(crop(mask.astype(np.uint8) * np.uint8(255), box)).resize(
            size, Image.Resampling.BILINEAR
        )
        inside = np.pad(np.asarray(lesion) > 127, 1)
        core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        colours = np.array(picture)
        colours[inside[1:-1, 1:-1] & ~core] = OUTLINE
        picture = Image.fromarray(colours)
    tile = Image.new("RGB", (TILE, TILE), "black")
    tile.paste(picture, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile
