"""The command audit: look for leaks in a dataset."""

from pathlib import Path
from typing import Annotated

import tyro

from stroke_hub.cli.common import (
    program,
    read_noted,
    tell_findings,
)
from stroke_hub.datasets.slice_rules import SliceRules
from stroke_hub.files import atomic_folder
from stroke_hub.progress import say

__all__ = ["audit_folder"]


@program
def audit_folder(
    *,
    data_dir: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    advanced_slices: SliceRules = SliceRules(),  # noqa: B008  frozen
) -> None:
    """Look for leaks in a dataset: one picture twice, one patient on both sides, uneven classes.

    Args:
        data_dir: a dataset folder in the Kaggle layout, or a dataset of scans as `stroke-hub data` reads it.
        out: a new folder for audit.json, audit.csv and pictures of the pairs.
        advanced_slices: how slices are made of a dataset of scans.
    """
    from stroke_hub.audit.leaks import audit, write_audit

    records = read_noted(data_dir, advanced_slices)
    with atomic_folder(out) as folder:
        found = audit(records)
        write_audit(found, records, folder)
    tell_findings(found)
    say(f"audit: {out}")
