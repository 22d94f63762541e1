"""The command audit: look for leaks in a dataset."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from stroke_hub.cli.common import (
    program,
    read_noted,
    tell_findings,
)
from stroke_hub.datasets.slice_rules import SliceRules
from stroke_hub.errors import DatasetError
from stroke_hub.files import atomic_folder
from stroke_hub.progress import say

__all__ = ["audit_folder"]


@program
def audit_folder(
    *,
    data_dir: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    predictions: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    draft: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    advanced_slices: SliceRules = SliceRules(),  # noqa: B008  frozen
) -> None:
    """Look for leaks in a dataset: one picture twice, one patient on both sides, uneven classes, and shortcuts.

    Args:
        data_dir: a dataset folder in the Kaggle layout, or a dataset of scans as `stroke-hub data` reads it.
        out: a new folder for audit.json, audit.csv, shortcuts.csv and pictures of the pairs.
        predictions: out_of_fold.csv of `stroke-hub train --folds`, or another table of path and
            stroke_probability: labels that it contradicts are ranked by patient, into label_doubts.csv.
        draft: a new file for an index.csv with the labels that --predictions suggests, to be checked by a reader.
        advanced_slices: how slices are made of a dataset of scans.
    """
    from stroke_hub.audit.findings import add_findings
    from stroke_hub.audit.label_quality import check_draft, find_doubts, write_doubts, write_draft
    from stroke_hub.audit.leaks import audit, write_audit
    from stroke_hub.audit.shortcuts import (
        describe_shortcuts,
        measure_shortcuts,
        tabulate_shortcuts,
        write_shortcuts,
    )

    if draft and not predictions:
        raise DatasetError("--draft: needs --predictions, the table that it is drawn from.")
    if draft:
        check_draft(draft, data_dir)
    records = read_noted(data_dir, advanced_slices)
    doubts = find_doubts(records, predictions) if predictions else None  # what is wrong with it shows at once
    with atomic_folder(out) as folder:
        found, shortcuts = audit(records), measure_shortcuts(records)
        summary = add_findings(found.summary, describe_shortcuts(shortcuts))
        summary |= {"shortcuts": tabulate_shortcuts(shortcuts)}
        write_shortcuts(shortcuts, folder)
        if doubts:
            summary = add_findings(summary, doubts.findings) | {"labels": doubts.summary}
            write_doubts(doubts, folder)
        found = replace(found, summary=summary)
        write_audit(found, records, folder)
    tell_findings(found)
    if doubts and draft:
        write_draft(records, doubts, draft, data_dir)
        say(f"draft, to be checked by a reader of pictures: {draft}")
    say(f"audit: {out}")
