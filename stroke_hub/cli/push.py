"""The command push: publish a finished run."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from stroke_hub.cli.common import program, tell_export
from stroke_hub.data.records import Records
from stroke_hub.datasets.open_dataset import open_dataset
from stroke_hub.errors import RunError
from stroke_hub.models.sample import SAMPLE
from stroke_hub.progress import say

__all__ = ["PublishOptions", "publish_run", "push_run"]


@dataclass(frozen=True)
class PublishOptions:
    """How a run is published."""

    private: bool = False
    """Make the repository private, where it is made now."""
    create_pr: bool = False
    """Open a pull request instead of committing."""
    revision: Annotated[str | None, tyro.conf.arg(metavar="BRANCH")] = None
    """Commit to this branch instead of main."""
    tag: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Tag the commit so; by default weights- and the first 8 digits of the weights' SHA-256."""
    update_card: bool = False
    """Renew the numbers in a card that was edited on the Hub."""
    half: bool = False
    """Store the weights as float16: half the download."""
    with_checkpoints: bool = False
    """Upload the checkpoints too."""
    with_onnx: bool = False
    """Export to ONNX, where that is not done, and upload onnx/ too."""
    with_handler: bool = False
    """Upload handler.py, by which an Inference Endpoint answers; implies --with-onnx."""
    datasets: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OWNER/DATASET")] = ()
    """Datasets on the Hub that the model learned from, for the card."""
    new_version: Annotated[str | None, tyro.conf.arg(metavar="OWNER/NAME")] = None
    """The model that replaces this one, for the card."""
    dry_run: bool = False
    """Only list what would be uploaded; make no request."""

    def __post_init__(self) -> None:
        if self.create_pr and (self.revision or self.tag):
            raise RunError("--create-pr goes to main and gets no tag; leave --revision and --tag out.")


@program
def push_run(
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    repository: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")],
    *,
    publishing: PublishOptions = PublishOptions(),
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
) -> None:
    """Publish a finished run on the Hub in one commit: weights, card, report, figures and settings.

    Args:
        run: the folder of a finished and evaluated run.
        repository: the Hub repository; it is made where there is none.
        publishing: how it is published.
        data_dir: with --with-onnx, the dataset on whose test slices the export is measured; without it, on noise.
    """
    from stroke_hub.deploy.hub import check_access, check_name

    if run == SAMPLE:
        raise RunError(
            f"{SAMPLE}: is in the package, so everybody has it; give the folder of a finished run, as ./{SAMPLE}."
        )
    if not Path(run).is_dir():
        raise RunError(f"{run}: is no folder; give the folder of a finished run.")
    check_name(repository)
    if not publishing.dry_run:
        check_access(repository, create_pr=publishing.create_pr)
    records = open_dataset(data_dir) if data_dir else None
    publish_run(Path(run), repository, publishing, records=records, name=data_dir.name if data_dir else "")


def publish_run(
    run: Path, repository: str, publishing: PublishOptions, *, records: Records | None, name: str
) -> None:
    """Publish a run, exported first where the options ask for it."""
    from stroke_hub.deploy.publish import publish

    if publishing.with_onnx or publishing.with_handler:
        _export_once(run, records, name)
    address = publish(run, repository, **asdict(publishing))
    say(f"published: {address}" if address else "nothing was published, as this was a dry run.")


def _export_once(run: Path, records: Records | None, name: str) -> None:
    """Export a run and measure that on its test slices, unless its weights are exported already."""
    from stroke_hub.deploy.export import export
    from stroke_hub.files import hash_file
    from stroke_hub.inference.onnx_model import FOLDER, read_export
    from stroke_hub.models.weights import WEIGHTS_FILE

    record = read_export(run)
    if record is None or record["weights_sha256"] != hash_file(run / WEIGHTS_FILE):
        record = export(run, records=records, name=name)
    tell_export(record, run / FOLDER)
