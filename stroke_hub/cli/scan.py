"""The command scan: whole scans -> one answer each, with evidence, a picture and a page."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from stroke_hub.cli.common import program
from stroke_hub.errors import RunError, UnreadableImage, pluralise
from stroke_hub.files import atomic_folder, write_text
from stroke_hub.io.windowing import Modality
from stroke_hub.progress import say

if TYPE_CHECKING:
    from stroke_hub.dicom.write_objects import Kind
    from stroke_hub.inference.predictor import Predictor

__all__ = ["answer_scans"]

TABLE = "scans.csv"
COLUMNS = ("scan", "folder", "label", "probability", "slices", "slices_called_stroke", "highest", "error")


@program
def answer_scans(
    studies: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER|ZIP|FILE")],
    *,
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|OWNER/NAME|sample")],
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    revision: Annotated[str | None, tyro.conf.arg(metavar="COMMIT")] = None,
    series: Annotated[str | None, tyro.conf.arg(metavar="NUMBER|WORDS|UID")] = None,
    modality: Modality | None = None,
    backend: Literal["auto", "torch", "onnx"] = "auto",
    dicom: Annotated[str | None, tyro.conf.arg(metavar="sc,sr,pm,ko")] = None,
) -> None:
    """Answer for whole scans: a folder with scan.json, slices.csv, evidence, a contact sheet and a page for each.

    Of several scans, those that OUT holds already, of the same model, are left as they are: the same command goes
    on where it stopped. A scan that cannot be read is a row with its error.

    Args:
        studies: scans, each a DICOM folder, a zip archive, a NIfTI volume, a multi-frame DICOM file or pictures.
        model: a run folder, a model on the Hub, or sample, the model that comes with the package.
        out: of one scan, a new folder for its files; of several, a folder with one for each and scans.csv.
        revision: commit, tag or branch of a Hub model.
        series: which of several series, by number, description or UID; without it the one that suits is taken.
        modality: of all scans, BT (CT) or MR; without it a DICOM header may tell.
        backend: what computes; auto is onnx where there is no GPU and the model has an export, otherwise torch.
        dicom: also write DICOM objects for a PACS or viewer, in a folder dicom: secondary capture (sc), structured
            report (sr), parametric map (pm), key object selection (ko). They repeat the patient of the scan.
    """
    from stroke_hub.dicom.write_objects import choose_kinds
    from stroke_hub.inference.predictor import Predictor

    if not studies:
        raise RunError("Nothing was given; name a scan: a folder, a zip archive or a file.")
    names = [_name(study) for study in studies]
    if twice := {name for name in names if names.count(name) > 1}:
        raise RunError(f"{sorted(twice)[0]}: two scans have this name; give them folders of different names.")
    kinds = choose_kinds(dicom) if dicom is not None else ()
    predictor = Predictor.from_pretrained(model, revision=revision, backend=backend)
    told = Path(model).name if Path(model).is_dir() else model
    about = {"name": told, "commit": predictor.commit, "weights_sha256": predictor.hash_weights()}
    options: dict[str, Any] = {"series": series, "modality": modality}
    if len(studies) == 1:
        answer = _answer(predictor, studies[0], out, about, options, kinds)
        say(f"{studies[0].name}: {answer['label']}, probability of stroke {answer['probability']:.3f}; {out}")
        return
    rows = []
    out.mkdir(parents=True, exist_ok=True)
    for study, name in zip(studies, names, strict=True):
        try:
            folder = out / name
            found = _find_answer(folder, about, kinds) or _answer(predictor, study, folder, about, options, kinds)
            row = {key: found[key] for key in COLUMNS if key in found} | {
                "highest": found["ranked"][0],
                "error": "",
            }
            say(f"{name}: {row['label']}, probability of stroke {row['probability']:.3f}")
        except UnreadableImage as error:
            row = {"error": str(error)}
            say(f"error: {error}")
        rows.append({"scan": study.name, "folder": name} | row)
        write_text(out / TABLE, _to_csv(rows))
    errors = sum(bool(row["error"]) for row in rows)
    say(f"{out / TABLE}: {pluralise(len(rows), 'scan')}, {errors} with an error")
    if errors == len(rows):
        raise RunError(f"{out / TABLE}: not one scan could be read; its column error says why.")


def _name(study: Path) -> str:
    """The folder of a scan's answer: its name, without what no file system takes."""
    name = re.sub(r"(\.nii)?\.(gz|zip|nii|dcm|tiff?|png|jpe?g)$", "", study.name, flags=re.IGNORECASE)
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "scan"


def _find_answer(folder: Path, about: dict[str, Any], kinds: "tuple[Kind, ...]") -> dict[str, Any] | None:
    """The answer that is there already, of this model; None where there is none."""
    import json

    from stroke_hub.dicom.write_objects import FILES, FOLDER
    from stroke_hub.report.scan_page import SCAN_FILE

    try:
        found: dict[str, Any] = json.loads((folder / SCAN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if found.get("model") != about:
        raise RunError(f"{folder}: holds the answer of another model; give another --out.")
    if any(not (folder / FOLDER / FILES[kind]).is_file() for kind in kinds):
        raise RunError(f"{folder}: holds an answer without the DICOM objects asked for; give another --out.")
    return found


def _answer(
    predictor: "Predictor",
    study: Path,
    folder: Path,
    about: dict[str, Any],
    options: dict[str, Any],
    kinds: "tuple[Kind, ...]",
) -> dict[str, Any]:
    from stroke_hub.dicom.write_objects import FOLDER, prepare_sources, write_objects
    from stroke_hub.report.scan_page import describe_scan, write_scan
    from stroke_hub.scan.load_scan import load_scan

    scan = load_scan(study, **options)
    sources = prepare_sources(scan, kinds, patient=True) if kinds else None  # refused before anything is computed
    with atomic_folder(folder) as partial:
        explained = predictor.explain(scan)
        write_scan(scan, explained, partial, model=about)
        if sources:
            (partial / FOLDER).mkdir()
            objects = partial / FOLDER
            write_objects(scan, explained, objects, kinds=kinds, model=about, patient=True, sources=sources)
    return describe_scan(scan, explained, model=about)


def _to_csv(rows: list[dict[str, Any]]) -> str:
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(COLUMNS)).convert_dtypes()  # counts stay whole where one is missing
    return str(table.to_csv(index=False))
