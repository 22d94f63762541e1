"""nnU-Net: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz and dataset.json."""

import re
from pathlib import Path
from typing import Any

from stroke_hub.data.layout import show_path
from stroke_hub.datasets.layouts.files import cut_suffix, describe_lost, find_volumes, name_sequence, read_json
from stroke_hub.datasets.scan_table import Problem, ScanRecord, ScanTable, Split

__all__ = ["read_nnunet", "recognises_nnunet"]

CHANNEL = re.compile(r"_(\d{4})$")
PARTS: dict[Split, tuple[str, str]] = {"train": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}
PATIENTS = "nnU-Net names cases, not patients: each case counts as a patient."


def recognises_nnunet(root: Path) -> bool:
    """Whether a folder holds imagesTr and labelsTr."""
    return (root / "imagesTr").is_dir() and (root / "labelsTr").is_dir()


def read_nnunet(root: Path) -> ScanTable:
    """Read an nnU-Net dataset: a scan for each channel of a case; test cases count where they have masks.

    Raises
    ------
    DatasetError : dataset.json is damaged.
    """
    about = read_json(root / "dataset.json")
    named = about.get("channel_names") or about.get("modality") or {}
    channels: dict[str, str] = (
        {str(key): str(word) for key, word in named.items()} if isinstance(named, dict) else {}
    )
    problems: list[Problem] = []
    records: list[ScanRecord] = []
    seen: dict[str, Split] = {}
    has_test = bool(find_volumes(root / PARTS["test"][1]))
    for split, (images, labels) in PARTS.items():
        masks = {cut_suffix(file): file for file in find_volumes(root / labels)}
        bare = set()
        for image in find_volumes(root / images):
            stem = cut_suffix(image)
            found = CHANNEL.search(stem)
            case = CHANNEL.sub("", stem)
            if case not in masks:
                bare.add(case)
                continue
            if seen.setdefault(case, split) != split:
                problems.append(
                    Problem(
                        f"{show_path(case)} stands in imagesTr and in imagesTs, so two patients may have one id; "
                        "rename one of them.",
                        stops=True,
                    )
                )
            modality, sequence = name_sequence(channels.get(str(int(found[1])) if found else "0", ""))
            records.append(
                ScanRecord(
                    scan=stem,
                    patient=case,
                    split=split if has_test else None,
                    image=image,
                    mask=masks[case],
                    modality=modality,
                    sequence=sequence,
                )
            )
        problems += describe_lost(set(masks) - set(seen), "mask", f"of {labels} {{have}} no image")
        problems += describe_lost(bare, "case", f"of {images} {{have}} no mask and {{are}} left out")
    notes = [PATIENTS, *_describe_labels(about.get("labels"))]
    return ScanTable(
        root,
        "nnU-Net",
        sorted(records, key=lambda record: record.scan),
        tuple(dict.fromkeys(problems)),
        name=str(about.get("name") or root.name),
        release=str(about.get("release", "")),
        licence=str(about.get("licence") or about.get("license") or ""),
        notes=tuple(notes),
    )


def _describe_labels(labels: Any) -> list[str]:
    """Say what counts as a lesion where the masks tell several things apart."""
    if not isinstance(labels, dict):
        return []
    names = [str(name if not str(name).isdigit() else value) for name, value in labels.items()]
    others = [name for name in names if name.lower() != "background"]
    return (
        [f"All classes of the masks count as lesion: {', '.join(map(show_path, others))}."]
        if len(others) > 1
        else []
    )
