"""Small datasets in the layouts of the field: simulated heads, some with a lesion and its mask."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from stroke_hub.datasets.scan_table import ScanTable

IMAGE: Any = nibabel.Nifti1Image  # has no types
Writer = Callable[[Path], Path]

SIDE, SLICES = 48, 6
AFFINE = np.diag([4.0, 4.0, 6.0, 1.0])  # a voxel is 4 x 4 x 6 mm: one voxel of a lesion has 16 mm2
LESION = range(2, 4)  # the slices that hold it


def draw_head(seed: int, *, lesion: bool, is_ct: bool = True) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A head of SIDE x SIDE x SLICES voxels (RAS) and its lesion; the first slice is air."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, SIDE)], indexing="ij")
    radius = np.hypot(x / 0.7, y / 0.85)
    air, bone, brain, bright = (-1000, 700, 35, 75) if is_ct else (0, 120, 300, 700)
    head = np.where(radius < 1, bone, air).astype(float)
    head[radius < 0.85] = brain
    volume = np.repeat(head[..., None], SLICES, axis=2) + rng.normal(0, 3, (SIDE, SIDE, SLICES))
    volume[..., 0] = air
    mask = np.zeros(volume.shape, np.uint8)
    if lesion:
        left, low = rng.integers(14, 24, 2)
        mask[left : left + 8, low : low + 6, LESION.start : LESION.stop] = 1
        volume[mask > 0] += bright - brain
    return volume.astype(np.int16), mask


def save(file: Path, voxels: NDArray[Any], affine: NDArray[np.float64] = AFFINE) -> Path:
    """Write a volume."""
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(IMAGE(voxels, affine), file)
    return file


def write_rows(file: Path, rows: Sequence[dict[str, Any]], *, delimiter: str = ",") -> None:
    """Write a CSV."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def save_dicom(file: Path, pixels: NDArray[np.int16], *, patient: str, series: str, study: str, z: float) -> None:
    """Write a CT slice as DICOM; pixels (H, W) in HU, anterior up."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.Modality, ds.PatientID, ds.Manufacturer = "CT", patient, "SIMULATED"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-96, -96, z], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [4, 4], 6
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    ds.PixelData = pixels.astype("<i2").tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(file, enforce_file_format=True)


def show(volume: NDArray[Any], number: int) -> NDArray[Any]:
    """A slice of a volume in RAS as a radiologist sees it: anterior up, the patient's left on the right."""
    return volume[::-1, ::-1, number].T


def write_isles22(root: Path, *, scans: int = 8) -> Path:
    """ISLES'22: rawdata/sub-strokecase*/ses-0001/ with dwi, adc, flair on its own grid; masks under derivatives."""
    for number in range(scans):
        name = f"sub-strokecase{number + 1:04d}"
        stem = f"{name}_ses-0001"
        dwi, mask = draw_head(number, lesion=number % 2 == 0, is_ct=False)
        place = root / "rawdata" / name / "ses-0001"
        save(place / f"{stem}_dwi.nii.gz", dwi)
        save(place / f"{stem}_adc.nii.gz", 1000 - dwi)
        save(place / f"{stem}_flair.nii.gz", dwi[:, :, ::2], np.diag([4.0, 4.0, 12.0, 1.0]))
        save(root / "derivatives" / name / "ses-0001" / f"{stem}_msk.nii.gz", mask)
    return root


def write_isles24(root: Path, *, scans: int = 8) -> Path:
    """ISLES'24: raw_data with ncct in ses-01, dwi in ses-02; masks of the later session on the grid of the ncct."""
    moved = np.diag([5.0, 5.0, 6.0, 1.0])
    for number in range(scans):
        name = f"sub-stroke{number + 1:04d}"
        ncct, mask = draw_head(number, lesion=number % 2 == 0)
        dwi, _ = draw_head(number, lesion=number % 2 == 0, is_ct=False)
        save(root / "raw_data" / name / "ses-01" / f"{name}_ses-01_ncct.nii.gz", ncct)
        save(root / "raw_data" / name / "ses-01" / f"{name}_ses-01_cta.nii.gz", ncct)
        save(root / "raw_data" / name / "ses-02" / f"{name}_ses-02_dwi.nii.gz", dwi, moved)
        later = root / "derivatives" / name / "ses-02"
        save(later / f"{name}_ses-02_space-ncct_dwi.nii.gz", dwi)
        save(later / f"{name}_ses-02_space-ncct_lesion-msk.nii.gz", mask)
        save(root / "derivatives" / name / "ses-01" / f"{name}_ses-01_space-ncct_lvo-msk.nii.gz", 1 - mask)
    return root


def write_rsna(root: Path, *, scans: int = 8) -> Path:
    """RSNA 2019: stage_2_train/ID_*.dcm and stage_2_train.csv; two series of each of the first patients."""
    rows = []
    for number in range(scans):
        volume, mask = draw_head(number, lesion=number % 2 == 0)
        series, study = generate_uid(), generate_uid()
        for z in range(1, SLICES):
            name = f"ID_{number:04x}{(z * 7) % SLICES:05x}"  # names say nothing about the place
            save_dicom(
                root / "stage_2_train" / f"{name}.dcm",
                show(volume, z),
                patient=f"ID_patient{number // 2 * 2 if number < 2 else number}",
                series=series,
                study=study,
                z=6.0 * z,
            )
            kinds = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
            bleeds = int(mask[..., z].any())
            rows += [
                {"ID": f"{name}_{kind}", "Label": bleeds if kind in ("any", "subdural") else 0} for kind in kinds
            ]
    write_rows(root / "stage_2_train.csv", rows)
    return root


def write_nnunet(root: Path, *, scans: int = 8, has_test: bool = True) -> Path:
    """nnU-Net: imagesTr/case_0000.nii.gz, labelsTr/case.nii.gz, and a test part with masks."""
    for number in range(scans):
        volume, mask = draw_head(number, lesion=number % 2 == 0)
        part = "Ts" if has_test and number >= scans - 2 else "Tr"
        save(root / f"images{part}" / f"stroke_{number:03d}_0000.nii.gz", volume)
        save(root / f"labels{part}" / f"stroke_{number:03d}.nii.gz", mask)
    about = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": scans,
        "file_ending": ".nii.gz",
        "name": "Simulated",
        "licence": "CC0",
    }
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def _list_bleeding(patient: int, mask: NDArray[np.uint8]) -> list[dict[str, int]]:
    return [
        {
            "PatientNumber": patient,
            "SliceNumber": number + 1,
            "Intraventricular": 0,
            "Intraparenchymal": 0,
            "Subarachnoid": 0,
            "Epidural": 0,
            "Subdural": int(mask[..., number].any()),
            "No_Hemorrhage": int(not mask[..., number].any()),
            "Fracture_Yes_No": 0,
        }
        for number in range(mask.shape[2])
    ]


def write_ct_ich(root: Path, *, scans: int = 8) -> Path:
    """CT-ICH 1.3.1: ct_scans/049.nii, masks/049.nii with 0 and 255, labels by slice."""
    rows = []
    for number in range(scans):
        volume, mask = draw_head(number, lesion=number % 2 == 0)
        save(root / "ct_scans" / f"{49 + number:03d}.nii", volume)
        save(root / "masks" / f"{49 + number:03d}.nii", mask * np.uint8(255))
        rows += _list_bleeding(49 + number, mask)
    write_rows(root / "hemorrhage_diagnosis_raw_ct.csv", rows)
    write_rows(root / "patient_demographics.csv", [{"Patient Number": 49 + n, "Age": 40} for n in range(scans)])
    (root / "LICENSE.txt").write_text("Creative Commons Attribution 4.0 International Public License\n")
    return root


def write_ct_ich_pictures(root: Path, *, scans: int = 8) -> Path:
    """CT-ICH 1.0.0: Patients_CT/049/brain/1.jpg with 1_HGE_Seg.jpg where there is a haemorrhage."""
    rows = []
    for number in range(scans):
        volume, mask = draw_head(number, lesion=number % 2 == 0)
        place = root / "Patients_CT" / f"{49 + number:03d}" / "brain"
        place.mkdir(parents=True)
        for z in range(SLICES):
            grey = np.clip((show(volume, z) + 20) * 2.0, 0, 255).astype(np.uint8)
            Image.fromarray(grey).save(place / f"{z + 1}.jpg")
            if mask[..., z].any():
                Image.fromarray(show(mask, z) * np.uint8(255)).save(place / f"{z + 1}_HGE_Seg.jpg")
        rows += _list_bleeding(49 + number, mask)
    write_rows(root / "hemorrhage_diagnosis.csv", rows)
    return root


def write_cq500(root: Path, *, scans: int = 8) -> Path:
    """CQ500: reads.csv and "CQ500CT1 CQ500CT1/Unknown Study/CT 5mm/*.dcm"."""
    rows = []
    for number in range(scans):
        volume, _ = draw_head(number, lesion=number % 2 == 0)
        series, study = generate_uid(), generate_uid()
        name = f"CQ500CT{number + 1}"
        for z in range(1, SLICES):
            file = root / f"{name} {name}" / "Unknown Study" / "CT 5mm" / f"CT{SLICES - z:06d}.dcm"
            save_dicom(file, show(volume, z), patient=name, series=series, study=study, z=6.0 * z)
        votes = (1, 1, 0) if number % 2 == 0 else (1, 0, 0)
        rows.append({"name": f"CQ500-CT-{number + 1}", **{f"R{n + 1}:ICH": vote for n, vote in enumerate(votes)}})
    write_rows(root / "reads.csv", rows)
    return root


def write_csv(root: Path, *, scans: int = 8) -> Path:
    """A CSV of one's own: image, mask, patient, split; two scans of the first patient."""
    rows = []
    for number in range(scans):
        volume, mask = draw_head(number, lesion=number % 2 == 0)
        save(root / "scans" / f"s{number}.nii.gz", volume)
        save(root / "masks" / f"s{number}.nii.gz", mask)
        patient = "p0" if number < 2 else f"p{number}"
        split = "test" if number >= scans - 4 else "train"
        rows.append(
            {
                "image": f"scans/s{number}.nii.gz",
                "mask": f"masks/s{number}.nii.gz",
                "patient": patient,
                "split": split,
                "modality": "CT",
            }
        )
    write_rows(root / "table.csv", rows)
    return root


def list_sentences(table: ScanTable) -> str:
    """All that is in the way, as one text."""
    return "\n".join(problem.sentence for problem in table.problems)
