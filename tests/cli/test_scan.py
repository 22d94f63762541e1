"""Claims of the command scan: files that agree with one another, many scans that go on where they stopped."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from pydicom.dataset import Dataset

from stroke_hub import Predictor, load_scan, predict
from stroke_hub.cli.main import main
from tests.scan.studies import as_dicom, as_nifti, write


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "head.nii.gz"
    nibabel.save(as_nifti(), path)  # type: ignore[no-untyped-call]
    return path


def test_the_files_of_a_scan_agree(scan: Path, tmp_path: Path) -> None:
    main(["scan", str(scan), "--model", "sample", "--out", str(tmp_path / "out")])
    told = json.loads((tmp_path / "out" / "scan.json").read_text())
    slices = pd.read_csv(tmp_path / "out" / "slices.csv")
    loaded = load_scan(scan)
    answer = predict(Predictor.from_pretrained("sample"), loaded)
    assert told["probability"] == pytest.approx(answer.probability, abs=1e-6)
    assert told["ranked"] == answer.ranked
    assert len(slices) == told["slices"] == len(loaded)
    shares = slices[[f"contribution_{name}" for name in told["contributions"]]].sum()
    assert shares.tolist() == pytest.approx(list(told["contributions"].values()), abs=1e-6)
    assert sum(shares) + told["shift"] == pytest.approx(told["log_odds"], abs=2e-4)
    evidence: Any = nibabel.load(tmp_path / "out" / "evidence.nii.gz")  # type: ignore[attr-defined]  # untyped
    assert evidence.shape == loaded.shape
    assert loaded.affine is not None
    np.testing.assert_allclose(evidence.affine, loaded.affine, atol=1e-5)
    display: Any = nibabel.load(tmp_path / "out" / told["display"])  # type: ignore[attr-defined]  # untyped
    assert display.shape == loaded.shape
    assert np.abs(display.get_fdata()).max() == pytest.approx(1, abs=0.01)
    both = told["contributions"]["cnn"] + told["contributions"]["vit"]
    assert evidence.get_fdata().sum() + told["evidence_outside"] == pytest.approx(both, abs=2e-4)
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"Probability of stroke {told['probability']:.3f}" in page
    assert "http" not in page.replace("http-equiv", "")
    assert (tmp_path / "out" / "contact-sheet.png").read_bytes().startswith(b"\x89PNG")


def test_many_scans_are_rows_and_go_on_where_they_stopped(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, broken = tmp_path / "other.nii.gz", tmp_path / "broken.nii"
    other.write_bytes(scan.read_bytes())
    broken.write_bytes(b"nothing")
    command = ["scan", str(broken), str(scan), str(other), "--model", "sample", "--out", str(tmp_path / "out")]
    main(command)
    table = (tmp_path / "out" / "scans.csv").read_bytes()
    rows = pd.read_csv(tmp_path / "out" / "scans.csv")
    assert rows["folder"].tolist() == ["broken", "head", "other"]
    assert rows["probability"].notna().tolist() == [False, True, True]
    assert "broken.nii" in rows["error"][0]
    written = (tmp_path / "out" / "head" / "scan.json").stat().st_mtime_ns
    (tmp_path / "out" / "other" / "scan.json").rename(tmp_path / "scan.json")
    (tmp_path / "out" / "other").rename(tmp_path / "lost")
    main(command)
    assert (tmp_path / "out" / "scans.csv").read_bytes() == table
    assert (tmp_path / "out" / "head" / "scan.json").stat().st_mtime_ns == written
    with pytest.raises(SystemExit, match="holds an answer by another --series or --modality"):
        main([*command, "--modality", "MR"])
    capsys.readouterr()


def test_dicom_objects_are_written_beside_the_answer_or_refused(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write(tmp_path / "study", [_place(one) for one in as_dicom()])
    command = ["scan", str(scan), str(study), "--model", "sample", "--out", str(tmp_path / "out")]
    main([*command, "--dicom", "sr,ko"])
    rows = pd.read_csv(tmp_path / "out" / "scans.csv")
    assert rows["error"].isna().tolist() == [False, True]
    assert "is no DICOM study" in rows["error"][0]
    assert not (tmp_path / "out" / "head").exists()
    written = sorted(path.name for path in (tmp_path / "out" / "study" / "dicom").iterdir())
    assert written == ["key-objects.dcm", "structured-report.dcm"]
    with pytest.raises(SystemExit, match="holds an answer without the DICOM objects asked for"):
        main([*command, "--dicom", "sr,pm"])
    capsys.readouterr()


def _place(ds: Dataset) -> Dataset:
    ds.FrameOfReferenceUID, ds.PatientName = "1.2.9", "Muster^Erika"
    return ds


@pytest.mark.slow
def test_two_ray_workers_give_the_same_table_and_go_on(scan: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    broken, other = tmp_path / "broken.nii", tmp_path / "other.nii.gz"
    broken.write_bytes(b"nothing")
    other.write_bytes(scan.read_bytes())
    command = ["scan", str(broken), str(scan), str(other), "--model", "sample"]
    main([*command, "--out", str(tmp_path / "here")])
    environment = os.environ | {"OMP_NUM_THREADS": "2", "RAY_worker_niceness": "0"}
    arguments = [*command, "--out", str(tmp_path / "ray"), "--engine", "ray"]
    subprocess.run([sys.executable, "-m", "stroke_hub", *arguments], env=environment, check=True, timeout=300)
    table = (tmp_path / "here" / "scans.csv").read_bytes()
    assert (tmp_path / "ray" / "scans.csv").read_bytes() == table
    for name in ("head", "other"):
        files = {file.name for file in (tmp_path / "ray" / name).iterdir()}
        assert files == {file.name for file in (tmp_path / "here" / name).iterdir()}
    shutil.rmtree(tmp_path / "ray" / "other")
    written = (tmp_path / "ray" / "head" / "scan.json").stat().st_mtime_ns
    main([*command, "--out", str(tmp_path / "ray")])
    assert (tmp_path / "ray" / "scans.csv").read_bytes() == table
    assert (tmp_path / "ray" / "head" / "scan.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["{scan}", "{scan}"], "two scans have this name"),
        (["{folder}/none.nii"], "does not exist"),
        (["{scan}", "--dicom", "sr"], "is no DICOM study"),
        (["{scan}", "--dicom", "pdf"], "give some of sc, sr, pm, ko"),
    ],
)
def test_a_mistake_gets_a_sentence(words: list[str], sentence: str, scan: Path, tmp_path: Path) -> None:
    given = [word.format(scan=scan, folder=tmp_path) for word in words]
    with pytest.raises(SystemExit, match=sentence):
        main(["scan", *given, "--model", "sample", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
