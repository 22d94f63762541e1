"""A dataset on the Hugging Face Hub becomes a folder with its files as they are stored, and a table of them."""

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stroke_hub.datasets.grids import read_grid
from stroke_hub.datasets.layouts.files import VOLUME, name_sequence
from stroke_hub.errors import HubError, UnreadableImage, printable
from stroke_hub.extras import name_extras
from stroke_hub.files import atomic_folder, find_cache, write_text
from stroke_hub.progress import say, track

__all__ = ["fetch_hub_dataset", "is_hub_address", "name_hub_dataset"]

ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?::([\w.-]+))?")
TABLE = "table.csv"
COLUMNS = ("image", "mask", "label", "scan", "patient", "split", "modality", "sequence")
PATIENTS = ("patient", "patient_id", "subject", "subject_id", "case_id", "sub_id")
MASK = re.compile(r"mask|segmentation|lesion|ground_?truth", re.IGNORECASE)
OTHER_MASK = re.compile(r"lvo|cow|brain|vessel|overlay", re.IGNORECASE)
SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}
SIGNATURES = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"\x1f\x8b": ".nii.gz",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"BM": ".bmp",
}


class Columns(NamedTuple):
    """The columns of a dataset that hold images and the lesion mask, and who the patient is."""

    images: tuple[str, ...]
    mask: str | None
    patient: str | None


def is_hub_address(data: str) -> bool:
    """Tell whether words mean a dataset on the Hub: hf://owner/name, or hf://owner/name:configuration."""
    return data.startswith("hf://")


def name_hub_dataset(address: str) -> str:
    """Name a dataset on the Hub for a report or a run folder: its own name, and that of its configuration."""
    return address.rpartition("/")[2].replace(":", "-")


def fetch_hub_dataset(address: str) -> Path:
    """Fetch a dataset of images or volumes with labels or masks, to be read as a CSV table.

    Images are not decoded: a file holds the bytes that the dataset holds. They lie beside the decoded slices
    (`find_cache`) and are fetched once for each version of the dataset.

    Parameters
    ----------
    address : hf://owner/name, or hf://owner/name:configuration.

    Returns
    -------
    The folder that holds them and table.csv.

    Raises
    ------
    HubError : there is no such dataset, it cannot be fetched, or has no column of images.
    MissingExtra : the package datasets is not installed.
    """
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise HubError(
            f"{printable(address)}: is no dataset; give hf://owner/name or hf://owner/name:configuration."
        )
    name, configuration = found[1], found[2]
    with name_extras("hf://", "hub-datasets"):
        import datasets
    try:
        parts = datasets.load_dataset(name, configuration)
    except Exception as error:  # of the network, the Hub, or any builder
        reason = printable(str(error).partition("\n")[0], limit=160)
        raise HubError(f"{name}: cannot be fetched ({reason}); check its name and your access to it.") from None
    first = next(iter(parts.values()))
    columns = _find_columns(name, first.features)
    version = hashlib.sha256(repr([(part, rows._fingerprint) for part, rows in parts.items()]).encode()).hexdigest()
    folder = find_cache() / "hub" / name.replace("/", "--") / (configuration or "default") / version[:12]
    if (folder / TABLE).is_file():
        return folder
    with atomic_folder(folder) as partial:
        rows = [row for part, rows in parts.items() for row in _write_rows(partial, part, rows, columns)]
        with open(partial / TABLE, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        about = {"name": name, "release": version[:12], "licence": first.info.license}
        write_text(partial / TABLE.replace(".csv", ".json"), json.dumps({k: v for k, v in about.items() if v}))
    say(f"fetched: {len(rows):,} images of {name} in {folder}")
    return folder


def _find_columns(name: str, features: Mapping[str, Any]) -> Columns:
    holding = [key for key, feature in features.items() if type(feature).__name__ in ("Image", "Nifti")]
    masks = [key for key in holding if MASK.search(key) and not OTHER_MASK.search(key)]
    others = [key for key in holding if not MASK.search(key) and not OTHER_MASK.search(key)]
    images = (
        [key for key in others if key == "image"] or [key for key in others if name_sequence(key)[0]] or others[:1]
    )
    if not images:
        raise HubError(f"{name}: has no column of images (Image or Nifti); write its files and a CSV yourself.")
    patient = next((key for key in PATIENTS if key in features), None)
    return Columns(tuple(images), masks[0] if masks else None, patient)


def _write_rows(folder: Path, part: str, rows: Any, columns: Columns) -> Iterator[dict[str, str]]:
    """Write the files of one split, and give the rows of the table."""
    features = rows.features
    for key in (*columns.images, *([columns.mask] if columns.mask else [])):
        rows = rows.cast_column(key, type(features[key])(decode=False))
    for number, row in enumerate(track(rows, f"writing {part}", total=len(rows))):
        mask = _write(folder, f"{part}_{number:06d}_mask", row[columns.mask]) if columns.mask else ""
        for key in columns.images:
            image = _write(folder, f"{part}_{number:06d}_{key}", row[key])
            if not image:
                continue
            modality, sequence = name_sequence(str(row.get("modality") or row.get("sequence") or key))
            yield {
                "image": image,
                "mask": mask if len(columns.images) == 1 or _fits(folder, image, mask) else "",
                "label": _name_label(features.get("label"), row.get("label")),
                "scan": str(row.get("scan") or ""),
                "patient": str(row[columns.patient]) if columns.patient else "",
                "split": SPLITS.get(part, ""),
                "modality": modality or "",
                "sequence": sequence if sequence != "image" else "",
            }


def _write(folder: Path, stem: str, held: Mapping[str, Any] | None) -> str:
    """Write what a cell holds, named by its kind; nothing for an empty cell."""
    if not held or not (held.get("bytes") or held.get("path")):
        return ""
    content: bytes = held.get("bytes") or Path(held["path"]).read_bytes()
    kinds: Iterable[str] = (suffix for start, suffix in SIGNATURES.items() if content.startswith(start))
    is_dicom = content[128:132] == b"DICM"
    file = f"{stem}{next(iter(kinds), '.dcm' if is_dicom else '.nii')}"
    (folder / file).write_bytes(content)
    return file


def _fits(folder: Path, image: str, mask: str) -> bool:
    """Whether a mask, which of several images of a row belongs to some, lies on an image's grid."""
    if not (VOLUME.search(image) and VOLUME.search(mask)):
        return False
    try:
        return read_grid(folder / mask).matches(read_grid(folder / image))
    except UnreadableImage:
        return False


def _name_label(feature: Any, value: Any) -> str:
    """The label in the words of the dataset."""
    if value is None or isinstance(value, Mapping):
        return ""
    names = getattr(feature, "names", None)
    return str(names[value]) if names and isinstance(value, int) else str(value)
