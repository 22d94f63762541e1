"""Divisions of a dataset that keep a group together: folds for cross-validation, and splits as files."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from stroke_hub.data.contents import hash_contents
from stroke_hub.data.layout import CLASSES
from stroke_hub.data.records import Records
from stroke_hub.errors import DatasetError, printable
from stroke_hub.files import write_text

__all__ = ["apply_split", "assign_folds", "assign_validation", "name_strata", "select_fold", "write_split"]

SPLITS = ("train", "val", "test")
COLUMNS = ("path", "label", "modality", "group", "split", "fold")


def assign_folds(table: pd.DataFrame, *, folds: int = 5, seed: int = 0) -> pd.DataFrame:
    """Return a copy of a table with a column "fold" (int64): the fold that a training row is held out in.

    Whole groups are held out, each once; labels and modalities stand in proportion as far as groups allow. Rows
    that are never held out have -1: test, and training groups that also stand in test. Rows of the split "val"
    become training rows, for every fold is validation once. The result depends on the rows and the seed, not on
    their order.

    Parameters
    ----------
    table : as in `Records`.
    folds : how many, at least 2.
    seed : chooses among the possible divisions.

    Raises
    ------
    DatasetError : when some fold could not have both stroke and normal slices.
    ValueError : when `folds` is below 2.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second, and few commands need it

    if folds < 2:
        raise ValueError(f"folds is {folds}; pass 2 or more.")
    table = table.assign(split=table["split"].replace("val", "train"))
    elsewhere = table.loc[table["split"] != "train", "group"]
    movable = table[(table["split"] == "train") & ~table["group"].isin(elsewhere)].sort_values("path")
    labels, groups = movable["label"].to_numpy(), movable["group"].to_numpy()
    most = min(len(set(groups[labels == label])) for label in (0, 1))
    # by the label alone where that is what it takes for every fold to have both
    for strata in (name_strata(movable, folds), labels) if most >= folds else ():
        splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
        divisions = [held for _, held in splitter.split(labels, strata, groups)]
        if all(set(labels[held]) == {0, 1} for held in divisions):
            fold_of = {group: fold for fold, held in enumerate(divisions) for group in groups[held]}
            trained = table["split"] == "train"
            return table.assign(fold=table["group"].map(fold_of).where(trained).fillna(-1).astype(np.int64))
    raise DatasetError(
        f"The training groups cannot be divided into {folds} folds with both classes each, for the rarer class has "
        f"{most} groups of its own; ask for fewer folds."
    )


def select_fold(table: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Return a copy of a table with folds in which the rows held out in `fold` have the split "val".

    Raises
    ------
    ValueError : when there is no such fold.
    """
    held = table["fold"] == fold
    if fold < 0 or not held.any():
        raise ValueError(f"there is no fold {fold}; pass 0 to {table['fold'].max()}.")
    return table.assign(split=table["split"].mask(held, "val"))


def write_split(records: Records, file: Path) -> None:
    """Write a dataset's division as CSV: path, label, modality, group, split, fold where there is one, and sha256.

    Raises
    ------
    DatasetError : a file of the dataset cannot be read.
    """
    columns = [name for name in COLUMNS if name in records.table]
    table = records.table[columns].assign(sha256=hash_contents(records.root, records.table["path"]))
    write_text(file, table.to_csv(index=False))


def apply_split(records: Records, file: Path) -> Records:
    """Return the dataset divided as a CSV of `write_split` says, or any with the columns path and split.

    Groups and folds are taken from it too where it has them. Images that it does not list are left out; a note
    says how many, and how many it moves into or out of test.

    Raises
    ------
    DatasetError : the CSV is unreadable or contradicts itself, lists files that are not there, or others than the
        dataset has under these paths (by label, or by sha256 where it says so), or leaves out a class.
    """
    name = printable(file.name, limit=200)
    said = _read_split(file).set_index("path")
    table = records.table
    if absent := [path for path in said.index if path not in set(table["path"])]:
        raise DatasetError(
            f"{name}: lists {len(absent):,} files that the dataset lacks, for example "
            f"{printable(absent[0], limit=200)}; give the dataset that it was written for."
        )
    kept = records.leave_out(~table["path"].isin(said.index), f"images that {name} does not list (--split-file)")
    listed = kept.table
    said = said.loc[listed["path"]].reset_index()
    _check_same(records.root, listed, said, name)
    notes = list(records.notes)
    if left_out := len(table) - len(listed):
        notes.append(f"{name} does not list {left_out:,} of {len(table):,} images: they are left out.")
    if moved := int(((said["split"] == "test") != (listed["split"] == "test")).sum()):
        notes.append(f"{name} moves {moved:,} images between training and test.")
    divided = listed.assign(split=said["split"])
    if "group" in said:
        divided["group"] = said["group"].where(said["group"] != "", listed["group"])
    if "fold" in said:
        divided["fold"] = said["fold"].astype(np.int64)
    return replace(kept, table=divided, notes=tuple(notes))


def _read_split(file: Path) -> pd.DataFrame:
    """The CSV as text, refused unless every row names a file once, and its split."""
    name = printable(file.name, limit=200)
    try:
        said = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig").astype(object)
    except (OSError, ValueError) as error:
        reason = printable(str(getattr(error, "strerror", None) or error), limit=80)
        raise DatasetError(f"{name}: cannot be read as a table ({reason}); give a split.csv.") from error
    if not {"path", "split"} <= set(said.columns):
        raise DatasetError(f"{name}: has no columns path and split; give a split.csv.")
    if said["path"].duplicated().any():
        twice = printable(said["path"][said["path"].duplicated()].iloc[0], limit=200)
        raise DatasetError(f"{name}: lists {twice} twice; remove one of its rows.")
    if unknown := set(said["split"]) - set(SPLITS):
        raise DatasetError(f"{name}: knows a split {printable(min(unknown))}; use train, val and test.")
    if "fold" in said and not said["fold"].str.fullmatch(r"-?\d{1,9}").all():
        raise DatasetError(f"{name}: has folds that are no whole numbers; correct its column fold.")
    return said


def _check_same(root: Path, listed: pd.DataFrame, said: pd.DataFrame, name: str) -> None:
    """Refuse a split of other files than the dataset's, or without both classes on each side."""
    other = pd.Series(False, index=listed.index)
    if "label" in said:
        other |= said["label"] != listed["label"].astype(str)
    if "sha256" in said:
        other |= said["sha256"] != pd.Series(hash_contents(root, listed["path"]), dtype=object)
    if other.any():
        raise DatasetError(
            f"{name}: was written for other files than the {int(other.sum()):,} here, for example "
            f"{printable(listed['path'][other].iloc[0], limit=200)}; give the dataset that it was written for."
        )
    for split in ("train", "test", *(["val"] if (said["split"] == "val").any() else [])):
        if set(listed["label"][said["split"] == split]) != {0, 1}:
            raise DatasetError(f"{name}: leaves {split} without stroke or without normal images; add some.")


def assign_validation(table: pd.DataFrame, *, fraction: float = 0.2, seed: int = 0) -> pd.DataFrame:
    """Return a copy of a table in which some training groups have the split "val".

    Whole groups move, so that about `fraction` of the training rows do, with labels and modalities in
    proportion as far as groups allow. A group that also stands in another split stays where it is. The result
    depends on the rows and the seed, not on their order; "test" is never touched.

    Parameters
    ----------
    table : as in `Records`.
    fraction : share of the training rows to move, above 0 and at most 0.5.
    seed : chooses among the possible divisions.

    Raises
    ------
    DatasetError : when train and val cannot both have stroke and normal slices.
    ValueError : when `fraction` is out of its range.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second, and few commands need it

    if not 0 < fraction <= 0.5:
        raise ValueError(f"fraction is {fraction}; pass a number above 0 and at most 0.5.")
    elsewhere = table.loc[table["split"] != "train", "group"]
    movable = table[(table["split"] == "train") & ~table["group"].isin(elsewhere)].sort_values("path")
    labels, groups = movable["label"].to_numpy(), movable["group"].to_numpy()
    rarest = min(int((labels == label).sum()) for label in CLASSES)
    most = min(round(1 / fraction), rarest, len(set(groups)))
    # fewer folds, or strata of the label alone, only where the first leave no fold with both classes
    for folds, alone in itertools.product(range(most, 1, -1), (False, True)):
        splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
        divisions = [
            (abs(len(val) / len(labels) - fraction), set(groups[val]))
            for train, val in splitter.split(labels, labels if alone else name_strata(movable, folds), groups)
            if set(labels[train]) == set(labels[val]) == set(CLASSES)
        ]
        if divisions:
            _, chosen = min(divisions, key=lambda division: division[0])
            return table.assign(split=table["split"].mask(table["group"].isin(chosen), "val"))
    raise DatasetError(
        "The training groups cannot be divided so that train and validation both have both classes; "
        "add patients of both classes."
    )


# --- the table ----------------------------------------------------------------------------------------------


def name_strata(table: pd.DataFrame, folds: int) -> list[str]:
    """Name each row's stratum: label and modality, or the label alone where one had fewer rows than folds."""
    pairs = zip(table["label"], table["modality"], strict=True)
    strata = [f"{label} {modality}" for label, modality in pairs]
    return strata if min(Counter(strata).values()) >= folds else [stratum[0] for stratum in strata]
