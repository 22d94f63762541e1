"""The examples: test slices that a rule names, one of each kind, so that nobody picks what flatters the model."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

import stroke_hub

if TYPE_CHECKING:
    import pandas as pd

    from stroke_hub import Predictor, Records

__all__ = [
    "KINDS",
    "MODALITIES",
    "SELECTION_FILE",
    "Asked",
    "Choice",
    "Example",
    "choose_rows",
    "find_examples",
    "pick_kinds",
]

Truth: TypeAlias = Literal["Stroke", "Normal"]

SELECTION_FILE = "selection.json"  # in a folder of examples: the model they were chosen with, and among how many
MODALITIES = {"BT": "CT", "MR": "MR"}  # for people
KINDS = {
    "clear hit": "of the strokes that the model found, the one of median probability",
    "subtle stroke": "of these, the one of lowest probability",
    "miss": "of the strokes that it missed, the one of median probability",
    "false alarm": "of the normal slices that it called Stroke, the one of highest probability",
    "normal": "of the normal slices that it called so, the one of median probability",
}
ASKED = 50  # test slices of a modality and class: more would make a large model's page wait
BATCH = 16


class Example(NamedTuple):
    """A test slice with its truth.

    kind : of KINDS. outline : uint8 (H, W), not 0 in the lesion, on the grid of the slice's pixels; None where no
    mask is known. source : the file's name.
    """

    slice: stroke_hub.Slice
    truth: Truth
    kind: str
    outline: NDArray[np.uint8] | None
    source: str


class Asked(NamedTuple):
    """How many slices of a modality the examples were chosen from, and how many of them had no answer."""

    slices: int
    strokes: int
    unanswered: int


class Choice(NamedTuple):
    """The examples by caption, and what to say of how they were chosen.

    asked : by modality. is_own : whether the slices are test slices of the model that is loaded.
    """

    examples: dict[str, Example]
    asked: dict[str, Asked]
    is_own: bool


def pick_kinds(
    probability: NDArray[np.float64], *, is_stroke: NDArray[np.bool_], is_called: NDArray[np.bool_]
) -> dict[str, int]:
    """Pick the slice of each kind by the rules of KINDS; a kind that does not occur is absent.

    Of an even number the upper median is taken. The rule, asked again of what it picked, picks the same.

    Parameters
    ----------
    probability : (N,) of stroke. is_stroke, is_called : (N,), the truth, and whether the model says Stroke.
    """
    ranked = np.argsort(probability, kind="stable")

    def rank(those: NDArray[np.bool_]) -> list[int]:
        return [int(index) for index in ranked if those[index]]

    found, missed = rank(is_stroke & is_called), rank(is_stroke & ~is_called)
    alarms, cleared = rank(~is_stroke & is_called), rank(~is_stroke & ~is_called)
    places = {
        "clear hit": found[len(found) // 2 :][:1],
        "subtle stroke": found[:1] if len(found) > 1 else [],
        "miss": missed[len(missed) // 2 :][:1],
        "false alarm": alarms[-1:],
        "normal": cleared[len(cleared) // 2 :][:1],
    }
    return {kind: place[0] for kind, place in places.items() if place}


def choose_rows(
    records: Records, predictor: Predictor, *, most: int | None = ASKED
) -> tuple[pd.DataFrame, dict[str, Asked]]:
    """Predict the test slices of a dataset and choose those of each modality and kind.

    A slice that the model does not know, and so does not answer, is no example.

    Parameters
    ----------
    most : slices of a modality and class, spread evenly by path; None asks all.

    Returns
    -------
    The chosen rows with a further column kind, and how many were asked of each modality.
    """
    import pandas as pd

    tests = records.part("test")
    chosen, asked = [], {}
    for modality, of_modality in tests.groupby("modality"):
        rows = pd.concat([_spread(cell, most) for _, cell in of_modality.groupby("label")])
        slices = [
            stroke_hub.load_slices(records.root / path, modality=cast(Any, modality))[0] for path in rows["path"]
        ]
        told = predictor.predict(slices, batch_size=BATCH)
        rows = rows.assign(probability=told.probability, called=[label == "Stroke" for label in told.label])
        asked[str(modality)] = Asked(len(rows), int((rows["label"] == 1).sum()), int(told.unusual.sum()))
        rows = rows[~told.unusual]
        picked = pick_kinds(
            rows["probability"].to_numpy(),
            is_stroke=(rows["label"] == 1).to_numpy(dtype=bool),
            is_called=rows["called"].to_numpy(dtype=bool),
        )
        chosen.append(rows.iloc[list(picked.values())].assign(kind=list(picked)))
    return (pd.concat(chosen) if chosen else tests.head(0).assign(kind="")), asked


def _spread(rows: pd.DataFrame, most: int | None) -> pd.DataFrame:
    """As many rows as wanted, spread evenly by path."""
    count = len(rows) if most is None else min(most, len(rows))
    return rows.iloc[[(2 * i + 1) * len(rows) // (2 * count) for i in range(count)]]


def find_examples(folder: Path, predictor: Predictor) -> Choice:
    """Choose the examples of a dataset; a folder without train/ and test/ is all test.

    A selection that was made before, of this model, says itself of how many slices it was made.
    """
    from stroke_hub.data.folders import has_splits, read_folder

    records = stroke_hub.read_records(folder) if has_splits(folder) else read_folder(folder)
    rows, asked = choose_rows(records, predictor)
    is_own = True
    selection = folder / SELECTION_FILE
    if selection.is_file():
        told = json.loads(selection.read_text(encoding="utf-8"))
        is_own = told["weights_sha256"] == predictor.hash_weights()
        if is_own:
            asked = {modality: Asked(**counts) for modality, counts in told["asked"].items()}
    examples = {
        f"{MODALITIES[str(row['modality'])]}, {row['kind']}": _load(records.root, row)
        for row in cast("list[dict[str, Any]]", rows.to_dict("records"))
    }
    return Choice(examples, asked, is_own)


def _load(root: Path, row: Mapping[str, Any]) -> Example:
    shown = stroke_hub.load_slices(root / row["path"], modality=row["modality"])[0]
    return Example(
        slice=shown,
        truth="Stroke" if row["label"] else "Normal",
        kind=row["kind"],
        outline=_load_outline(root, row.get("mask"), shown.pixels.shape),
        source=Path(row["path"]).name,
    )


def _load_outline(root: Path, mask: Any, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The lesion of a slice; none where its dataset has none of this slice's size."""
    if not isinstance(mask, str) or not mask:
        return None
    from stroke_hub.data.contents import load_lesion

    lesion = load_lesion(root / mask)
    return lesion.astype(np.uint8) if lesion.shape == shape else None
