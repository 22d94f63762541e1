"""An upload is decoded once, and what was decoded says whether a CT window changes it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stroke_hub
from tests.fakes.demo_server import ROOT
from tests.hostile import dicom, encode, nifti

CT = np.linspace(-1000, 200, 40 * 40 * 3).reshape(40, 40, 3).astype(np.int16)
MR = CT + 1000
FRAME = CT[:, :, 0] + 1000


@pytest.mark.parametrize(
    ("content", "windowed"),
    [
        (nifti(CT), True),
        (nifti(MR), False),
        (dicom(FRAME), True),
        (dicom(FRAME, modality="MR"), False),
        (encode(Image.fromarray(FRAME.astype(np.uint8)), "PNG"), False),
    ],
    ids=["NIfTI in HU", "NIfTI of MR", "DICOM in HU", "DICOM of MR", "PNG"],
)
def test_one_decoding_tells_whether_windows_matter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, windowed: bool
) -> None:
    monkeypatch.syspath_prepend(ROOT / "space")
    from study import Reading, read_study

    file = tmp_path / "scan"
    file.write_bytes(content)
    looks = [stroke_hub.load_slices(file, window=window)[-1].pixels for window in ("stroke", "subdural")]
    assert (looks[0] != looks[1]).any() == windowed
    plain, decoded = stroke_hub.load_slices, []
    monkeypatch.setattr(
        stroke_hub, "load_slices", lambda *given, **options: decoded.append(1) or plain(*given, **options)
    )
    assert read_study(str(file), Reading()).windowed == windowed
    assert len(decoded) == 1
