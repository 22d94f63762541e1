"""What was read of an upload: one slice or a scan, and its digest."""

import hashlib
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
    "content",
    [nifti(CT), nifti(MR), dicom(FRAME), encode(Image.fromarray(FRAME.astype(np.uint8)), "PNG")],
    ids=["NIfTI in HU", "NIfTI of MR", "DICOM in HU", "PNG"],
)
def test_a_study_says_what_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    monkeypatch.syspath_prepend(ROOT / "space")
    from study import Reading, read_study

    file = tmp_path / "scan"
    file.write_bytes(content)
    slices = stroke_hub.load_slices(file)
    study = read_study(str(file), Reading())
    assert (study.scan is None) == (len(slices) == 1)
    assert study.sha256 == hashlib.sha256(content).hexdigest()
    assert study.key != read_study(str(file), Reading()).key
    for one, wanted in zip(study.slices, slices, strict=True):
        np.testing.assert_array_equal(one.pixels, wanted.pixels)


def test_several_files_have_one_digest_in_any_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ROOT / "space")
    from study import Reading, read_study

    digests = []
    for number in range(3):
        content = encode(Image.fromarray((FRAME // 5 + number).astype(np.uint8)), "PNG")
        (tmp_path / f"{number}.png").write_bytes(content)
        digests.append(hashlib.sha256(content).hexdigest())
    files = [str(file) for file in tmp_path.iterdir()]
    lines = "".join(f"{digest}\n" for digest in sorted(digests))
    for order in (files, files[::-1]):
        study = read_study(order, Reading())
        assert study.sha256 == hashlib.sha256(lines.encode()).hexdigest()
        assert len(study.slices) == 3


def test_limits_are_sentences(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ROOT / "space")
    import study

    monkeypatch.setattr(study, "MAX_SLICES", 2)
    (tmp_path / "head.nii").write_bytes(nifti(CT))
    with pytest.raises(
        stroke_hub.UnreadableImage, match=r"^head.nii: has 3 slices, more than the 2 allowed; .*\.$"
    ):
        study.read_study(str(tmp_path / "head.nii"), study.Reading())
    monkeypatch.setattr(study, "MAX_PIXELS", 1000)
    with pytest.raises(stroke_hub.UnreadableImage, match=r"^head.nii: has 40 x 40 pixels, more than the 1,000"):
        study.read_study(str(tmp_path / "head.nii"), study.Reading())
    with pytest.raises(stroke_hub.UnreadableImage, match="has been deleted"):
        study.read_study([str(tmp_path / "gone.dcm")], study.Reading())
