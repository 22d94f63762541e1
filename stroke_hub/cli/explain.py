"""The command explain: a picture of one slice with its map, or a gallery of every slice of a dataset."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from stroke_hub.cli.common import note_simulated, program, read_noted
from stroke_hub.errors import RunError, pluralise
from stroke_hub.files import atomic_folder, atomic_write
from stroke_hub.io.windowing import Modality
from stroke_hub.progress import say

if TYPE_CHECKING:
    from stroke_hub.inference.predictor import Predictor
    from stroke_hub.io.slices import Slice

__all__ = ["explain_folder"]

Layer = Literal["cnn", "vit", "fused"]


@program
def explain_folder(
    file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = None,
    *,
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|OWNER/NAME|sample")],
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.png|FOLDER")],
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    revision: Annotated[str | None, tyro.conf.arg(metavar="COMMIT")] = None,
    layer: Layer | None = None,
    page: int | None = None,
    modality: Modality | None = None,
    split: Literal["test", "train"] | None = None,
    data_note: Annotated[str, tyro.conf.arg(metavar="WORDS")] = "",
) -> None:
    """Explain one slice by a picture, or every slice of a dataset's split by pages, worst errors first.

    Args:
        file: a picture, DICOM or NIfTI file with the slice; a whole scan is for stroke-hub scan.
        model: a run folder, a model on the Hub, or sample, the model that comes with the package.
        out: of a file, the slice with its map as a PNG of the slice's own size; of a dataset, a new folder for
            index.html, explanations.csv, pages/, maps/ and pictures/. As gallery/ of a run folder it is linked from
            the run's report.html, which is written again.
        data_dir: a dataset folder in the Kaggle layout, or a dataset of scans as `stroke-hub data` reads it.
        revision: commit, tag or branch of a Hub model.
        layer: of a file, which map is drawn: of the CNN (as without it), of the ViT, or both fused, in which blue
            speaks against.
        page: of a file with several slices, which one, from 1.
        modality: of a file, BT (CT) or MR; without it a DICOM header may tell.
        split: of a dataset, which part; test without it.
        data_note: of a dataset, words that the page carries, for example what the data stand for.
    """
    from stroke_hub.inference.predictor import Predictor

    if (file is None) == (data_dir is None):
        raise RunError("Name the file of one slice, or give --data-dir for a dataset; not both.")
    if data_dir is None:
        if file is None or split or data_note:
            raise RunError("--split and --data-note are of a dataset; leave them out.")
        one = _load(file, out, page, modality)
        _write_picture(Predictor.from_pretrained(model, revision=revision), one, layer or "cnn", out)
        return
    if layer or page or modality:
        raise RunError("--layer, --page and --modality are of one file; leave them out.")
    from stroke_hub.gallery.write_gallery import write_gallery
    from stroke_hub.report.html import write_page
    from stroke_hub.runs.report import REPORT_FILE, read_report
    from stroke_hub.runs.run_folder import GALLERY_FOLDER

    loaded = Predictor.from_pretrained(model, revision=revision)
    records = read_noted(data_dir)
    note = data_note or note_simulated(records)
    with atomic_folder(out) as folder:
        gallery = write_gallery(loaded, records.part(split or "test"), records.root, folder, note=note)
    say(f"gallery: {out / gallery.name}")
    if out.name == GALLERY_FOLDER and (out.parent / REPORT_FILE).is_file():
        report = write_page(read_report(out.parent), out.parent / "figures", out.parent / "report.html")
        say(f"report: {report}, whose errors now lead to the gallery")


def _load(file: Path, out: Path, page: int | None, modality: Modality | None) -> "Slice":
    from stroke_hub.io.slices import open_slices

    if out.suffix.lower() != ".png":
        raise RunError(f"{out}: is no name of a PNG; let it end in .png.")
    if out.exists() and file.exists() and out.samefile(file):
        raise RunError(f"{out}: is the slice itself; give another --out.")
    with open_slices(file, name=file.name, modality=modality) as slices:
        count = len(slices)
        if page is None and count > 1:
            raise RunError(f"{file.name}: holds {pluralise(count, 'slice')}; give --page, or use stroke-hub scan.")
        if page is not None and not 1 <= page <= count:
            raise RunError(f"{file.name}: has no slice {page}; it holds {pluralise(count, 'slice')}, from 1.")
        return slices[(page or 1) - 1]


def _write_picture(model: "Predictor", one: "Slice", layer: Layer, out: Path) -> None:
    from stroke_hub.inference.results import tell_probability

    found = model.explain(one)
    with atomic_write(out) as partial:
        found.overlay(layer).save(partial, "PNG")
    for remark in found.remarks:
        say(f"note: {remark}")
    say(f"{one.source}: {found.label}, probability of stroke {tell_probability(found.probability)}; {out}")
