"""report.json: read from a run folder or from the Hub."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stroke_hub.errors import HubError, ModelFormatError, RunError

if TYPE_CHECKING:  # torch is imported where it is used: reports and exports are read without it
    pass
from stroke_hub.models.download import download

__all__ = ["REPORT_FILE", "SCHEMA_VERSION", "find_report", "read_report"]

REPORT_FILE = "report.json"
SCHEMA_VERSION = 2  # of the report, as docs/report.md describes it
REPORTED = {"data", "model", "test", "operating_points", "calibration"}  # what its readers cannot do without


def read_report(run_dir: str | Path) -> dict[str, Any]:
    """The report of an evaluated folder (docs/report.md).

    Raises
    ------
    RunError : there is none, or it is damaged or of another schema version.
    """
    file = Path(run_dir) / REPORT_FILE
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{run_dir}: has no {REPORT_FILE}, so it is not an evaluated run; evaluate it first."
        ) from None
    except (OSError, ValueError, RecursionError):
        raise RunError(f"{file}: cannot be read; evaluate the run again.") from None
    if not isinstance(report, dict) or report.get("schema_version") != SCHEMA_VERSION:
        raise RunError(f"{file}: is not of schema version {SCHEMA_VERSION}; delete it and evaluate the run again.")
    whole = report.keys() >= REPORTED and isinstance(report["data"], dict)
    if not (whole and {"name", "note", "sha256", "split"} <= report["data"].keys()):
        raise RunError(f"{file}: is not whole; evaluate the run again.")
    return report


def find_report(model: str | Path, revision: str | None = None) -> dict[str, Any] | None:
    """The report that a run folder or a Hub repository has of its model; None where it has none of this version."""
    try:
        if Path(model).is_dir():
            return read_report(model)
        return read_report(download(str(model), REPORT_FILE, revision, {}).parent)
    except (HubError, ModelFormatError, RunError):
        return None
