"""The command data: what a dataset is understood as, and what is in the way of training on it."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from stroke_hub.cli.common import name_dataset, program
from stroke_hub.datasets.hub_dataset import fetch_hub_dataset, is_hub_address, name_hub_dataset
from stroke_hub.datasets.open_dataset import holds_scans, open_dataset
from stroke_hub.datasets.overview import describe_records, describe_scans
from stroke_hub.datasets.read_dataset import read_dataset
from stroke_hub.datasets.slice_rules import SliceRules
from stroke_hub.datasets.slice_scans import slice_scans
from stroke_hub.errors import DatasetError
from stroke_hub.files import atomic_write
from stroke_hub.progress import say

__all__ = ["show_dataset"]


@program
def show_dataset(
    given: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER|FILE.csv|hf://OWNER/NAME")],
    *,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None,
    advanced_slices: SliceRules = SliceRules(),  # noqa: B008  frozen
) -> None:
    """Show what a dataset is understood as: layout, labels, patients, masks, scanners, and what is in the way.

    The exit status is 1 where training could not start.

    Args:
        given: a dataset: BIDS, nnU-Net, RSNA 2019, CT-ICH, CQ500, a CSV of images with labels or masks,
            pictures in the Kaggle layout, or a dataset on the Hub.
        out: a picture for a contact sheet of slices, each lesion outlined.
        advanced_slices: how slices are made of a dataset of scans.
    """
    if out is not None and out.suffix.lower() != ".png":
        raise DatasetError(f"{out}: is no name of a PNG file; let it end in .png.")
    folder = fetch_hub_dataset(given) if is_hub_address(given) else Path(given)
    if holds_scans(folder):
        table = read_dataset(folder)
        for line in describe_scans(table):
            print(line, flush=True)
        for problem in table.problems:
            say(f"{'problem' if problem.stops else 'note'}: {problem.sentence}")
        if any(problem.stops for problem in table.problems):
            say("Training cannot start before this is mended.")
            sys.exit(1)
        records = slice_scans(table, advanced_slices)
        told = {problem.sentence for problem in table.problems}
    else:
        records, told = open_dataset(folder, advanced_slices), set()
        print(f"layout: pictures in folders; {len(records.table):,} slices")
    for line in describe_records(records):
        print(line)
    for sentence in records.notes:
        if sentence not in told:
            say(f"note: {sentence}")
    if out is not None:
        from stroke_hub.datasets.contact_sheet import draw_contact_sheet

        name = name_hub_dataset(given) if is_hub_address(given) else name_dataset(records)
        title = f"{name}: slices as training sees them"
        with atomic_write(out) as partial:
            draw_contact_sheet(records, title).save(partial, format="PNG")
        say(f"contact sheet: {out}")
