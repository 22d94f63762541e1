"""The command scan: whole scans -> one answer each, with evidence, a picture and a page."""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

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

Work: TypeAlias = Callable[["Predictor", Path, Path], dict[str, Any]]

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
    engine: Literal["threads", "ray"] = "threads",
    backend: Literal["auto", "torch", "onnx"] = "auto",
    dicom: Annotated[str | None, tyro.conf.arg(metavar="sc,sr,pm,ko")] = None,
) -> None:
    """Answer for whole scans: a folder with scan.json, slices.csv, evidence, a contact sheet and a page for each.

    Of several scans, those that OUT holds already, of the same model and options, are left as they are: the same
    command goes on where it stopped. A scan that cannot be read is a row with its error.

    Args:
        studies: scans, each a DICOM folder, a zip archive, a NIfTI volume, a multi-frame DICOM file or pictures.
        model: a run folder, a model on the Hub, or sample, the model that comes with the package.
        out: of one scan, a new folder for its files; of several, a folder with one for each and scans.csv.
        revision: commit, tag or branch of a Hub model.
        series: which of several series, by number, description or UID; without it the one that suits is taken.
        modality: of all scans, BT (CT) or MR; without it a DICOM header may tell.
        engine: threads of this machine, a scan at a time; or a Ray cluster, a scan on each core: the one that
            RAY_ADDRESS names, or else one on this machine. Its workers must see all files under the same paths.
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
    if engine == "ray":
        from stroke_hub.batch.ray_engine import import_ray

        import_ray()  # before a model is loaded for nothing
    predictor = Predictor.from_pretrained(model, revision=revision, backend=backend)
    told = Path(model).name if Path(model).is_dir() else model
    about = {"name": told, "commit": predictor.commit, "weights_sha256": predictor.hash_weights()}
    options = {"series": series, "modality": modality}
    work = partial(_answer, about=about, options=options, kinds=kinds)
    if len(studies) == 1 and engine == "threads":
        answer = work(predictor, studies[0], out)
        say(f"{studies[0].name}: {answer['label']}, probability of stroke {answer['probability']:.3f}; {out}")
        return
    predictor.explain([])  # what cannot explain says so before a scan is read
    folders = [out / name for name in names]
    rows = {
        number: _to_row(found)
        for number, folder in enumerate(folders)
        if (found := _find_answer(folder, about, options, kinds))
    }
    left = [number for number in range(len(studies)) if number not in rows]
    if engine == "ray":
        from stroke_hub.batch.pipeline import load_model

        answered = _answer_on_cluster(
            partial(load_model, model, predictor.commit or revision, backend=predictor.backend),
            work,
            {number: (studies[number], folders[number]) for number in left},
        )
    else:
        answered = ((number, _try(work, predictor, studies[number], folders[number])) for number in left)
    for number, row in chain(list(rows.items()), answered):
        rows[number] = row
        scan = row["error"] or f"{names[number]}: {row['label']}, probability of stroke {row['probability']:.3f}"
        say(f"error: {scan}" if row["error"] else scan)
        known = [{"scan": studies[one].name, "folder": names[one]} | rows[one] for one in sorted(rows)]
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / TABLE, _to_csv(known))
    errors = sum(bool(row["error"]) for row in rows.values())
    say(f"{out / TABLE}: {pluralise(len(rows), 'scan')}, {errors} with an error")
    if errors == len(rows):
        raise RunError(f"{out / TABLE}: not one scan could be read; its column error says why.")


def _name(study: Path) -> str:
    """The folder of a scan's answer: its name, without what no file system takes."""
    name = re.sub(r"(\.nii)?\.(gz|zip|nii|dcm|tiff?|png|jpe?g)$", "", study.name, flags=re.IGNORECASE)
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "scan"


def _find_answer(
    folder: Path, about: dict[str, Any], options: dict[str, Any], kinds: "tuple[Kind, ...]"
) -> dict[str, Any] | None:
    """The answer that is there already, of this model and these options; None where there is none."""
    from stroke_hub.dicom.write_objects import FILES, FOLDER
    from stroke_hub.report.scan_page import SCAN_FILE

    try:
        found: dict[str, Any] = json.loads((folder / SCAN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if found.get("model") != about:
        raise RunError(f"{folder}: holds the answer of another model; give another --out.")
    if found.get("asked") != options:
        raise RunError(f"{folder}: holds an answer by another --series or --modality; give another --out.")
    if any(not (folder / FOLDER / FILES[kind]).is_file() for kind in kinds):
        raise RunError(f"{folder}: holds an answer without the DICOM objects asked for; give another --out.")
    return found


def _answer(
    predictor: "Predictor",
    study: Path,
    folder: Path,
    *,
    about: dict[str, Any],
    options: dict[str, Any],
    kinds: "tuple[Kind, ...]",
) -> dict[str, Any]:
    """Write the files of one scan's answer; what scan.json has of it."""
    from stroke_hub.dicom.write_objects import FOLDER, prepare_sources, write_objects
    from stroke_hub.report.scan_page import describe_scan, write_scan
    from stroke_hub.scan.load_scan import load_scan

    scan = load_scan(study, **options)
    sources = prepare_sources(scan, kinds, patient=True) if kinds else None  # refused before anything is computed
    with atomic_folder(folder) as unfinished:
        explained = predictor.explain(scan)
        write_scan(scan, explained, unfinished, model=about, asked=options)
        if sources:
            (objects := unfinished / FOLDER).mkdir()
            write_objects(scan, explained, objects, kinds=kinds, model=about, patient=True, sources=sources)
    return describe_scan(scan, explained, model=about, asked=options)


def _try(work: Work, predictor: "Predictor", study: Path, folder: Path) -> dict[str, Any]:
    """The row of one scan, or why it has no answer."""
    try:
        return _to_row(work(predictor, study, folder))
    except UnreadableImage as error:
        return {"error": str(error)}


def _answer_on_cluster(
    load: Callable[[], "Predictor"], work: Work, asked: dict[int, tuple[Path, Path]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of scans by number, in the order in which the workers of a Ray cluster finish them."""
    from stroke_hub.batch.ray_engine import map_on_cluster

    numbers = list(asked)
    items = [json.dumps([str(path.absolute()) for path in asked[number]]) for number in numbers]
    for place, row in map_on_cluster(load, partial(_try_item, work), items):
        yield numbers[place], json.loads(row)


def _try_item(work: Work, predictor: "Predictor", item: str) -> bytes:
    study, folder = map(Path, json.loads(item))
    return json.dumps(_try(work, predictor, study, folder)).encode()


def _to_row(answer: dict[str, Any]) -> dict[str, Any]:
    """What the table has of an answer; `highest` is the slice of highest probability, from 0."""
    return {key: answer[key] for key in COLUMNS if key in answer} | {"highest": answer["ranked"][0], "error": ""}


def _to_csv(rows: list[dict[str, Any]]) -> str:
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(COLUMNS)).convert_dtypes()  # counts stay whole where one is missing
    return str(table.to_csv(index=False))
