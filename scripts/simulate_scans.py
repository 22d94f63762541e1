"""Write simulated DWI scans in the layout of ISLES'22: real lesion shapes in simulated heads, with masks.

python scripts/simulate_scans.py --out data/simulated-isles
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from stroke_hub.cli.common import program
from stroke_hub.data.simulated import FIELD_OF_VIEW, SCAN_LEVELS, simulate_scan
from stroke_hub.errors import DatasetError
from stroke_hub.files import atomic_folder
from stroke_hub.progress import track


@program
def write_scans(
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    scans: int = 40,
    slices: int = 16,
    size: int = 128,
    seed: int = 0,
) -> None:
    """Write simulated DWI scans in the layout of ISLES'22, every second one with an infarct.

    Args:
        out: a new folder.
        scans: one a subject.
        slices: of a scan.
        size: rows and columns of a slice, over 250 mm.
        seed: of heads, infarcts and noise.
    """
    if min(scans, slices, size) < 1:
        raise DatasetError("--scans, --slices and --size must be at least 1.")
    import nibabel

    image: Any = nibabel.Nifti1Image  # has no types
    across = FIELD_OF_VIEW / size
    step = (SCAN_LEVELS[1] - SCAN_LEVELS[0]) / max(slices - 1, 1)
    affine = np.diag([across, across, step, 1.0])
    with atomic_folder(out) as folder:
        about = {"Name": "Simulated DWI, not patients", "BIDSVersion": "1.8.0"}
        (folder / "dataset_description.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
        for number in track(range(scans), "simulating scans"):
            subject = f"sub-strokecase{number + 1:04d}"
            stack = simulate_scan((seed, number), infarct=number % 2 == 0, slices=slices, size=size)
            for place, ending, voxels in (
                ("rawdata", "dwi", np.stack([one.pixels for one in stack]).astype(np.int16)),
                ("derivatives", "msk", np.stack([one.mask for one in stack]).astype(np.uint8)),
            ):
                file = folder / place / subject / "ses-0001" / f"{subject}_ses-0001_{ending}.nii.gz"
                file.parent.mkdir(parents=True, exist_ok=True)
                # (up, down, right) -> RAS (right, front, up); the left of the patient is on the right
                nibabel.save(image(voxels.transpose(2, 1, 0)[::-1, ::-1], affine), file)


if __name__ == "__main__":
    write_scans()
