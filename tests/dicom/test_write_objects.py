"""Claims of the DICOM objects: valid, read by others, tied to their slices, of the patient only where asked."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, EnhancedCTImageStorage

from stroke_hub import MissingExtra, Predictor, Scan, ScanExplanation, UnreadableImage, explain, load_scan
from stroke_hub.dicom.write_objects import FILES, Kind, choose_kinds, write_objects
from stroke_hub.errors import RunError
from stroke_hub.io.quiet import silence
from tests.io.synth import dcm, head
from tests.scan.studies import as_enhanced, as_nifti, save

KINDS: tuple[Kind, ...] = ("sc", "sr", "pm", "ko")
MODEL = {"name": "sample", "commit": None, "weights_sha256": "0f" * 32}
STEP = 6.0  # mm from slice to slice
TILT = np.radians(18)
MOSAIC = Path(__file__).parents[1] / "io" / "cases" / "01-mosaic" / "mosaic.dcm"
SHAPES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {  # directions of rows and columns, way of a slice
    "axial": ((1, 0, 0, 0, 1, 0), (0, 0, 1)),
    "oblique": ((1, 0, 0, 0, np.cos(TILT), np.sin(TILT)), (0, -np.sin(TILT), np.cos(TILT))),
    "gantry": ((1, 0, 0, 0, np.cos(TILT), np.sin(TILT)), (0, 0, 1)),
    "coronal": ((1, 0, 0, 0, 0, -1), (0, 1, 0)),
}
FIELDS = {
    "PatientName": "Muster^Erika",
    "PatientID": "PID-4711",
    "PatientBirthDate": "19530807",
    "PatientSex": "F",
    "StudyDate": "20210304",
    "StudyTime": "123456",
    "StudyID": "STUDYID-9",
    "AccessionNumber": "ACC-0815",
    "ReferringPhysicianName": "Doktor^Quincy",
    "StudyDescription": "CT of a head",
}
UNASKED = {"InstitutionName": "Hospital", "SeriesDescription": "of Erika", "PatientComments": "knows Bert"}


class Case(NamedTuple):
    slices: list[Dataset]
    scan: Scan
    explained: ScanExplanation


def make_slices(shape: str, **more: Any) -> list[Dataset]:
    """A head of eight slices, in a shuffled order."""
    directions, way = SHAPES[shape]
    slices = [
        dcm(
            pixels + 1024,
            iop=directions,
            ipp=tuple(np.array([-40.0, 17.0, 5.0]) + STEP * number * np.array(way)),
            series="1.2.826.0.1.3680043.8.498.2",
            number=number + 1,
            StudyInstanceUID="1.2.826.0.1.3680043.8.498.1",
            FrameOfReferenceUID="1.2.826.0.1.3680043.8.498.3",
            **(FIELDS | UNASKED | more),
        )
        for number, pixels in enumerate(head(48, 8))
    ]
    return [slices[int(number)] for number in np.random.default_rng(0).permutation(8)]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.from_pretrained("sample")


@pytest.fixture(scope="module")
def make_case(predictor: Predictor) -> Callable[[str], Case]:
    made: dict[str, Case] = {}

    def make(shape: str) -> Case:
        if shape not in made:
            slices = make_slices(shape)
            scan = load_scan([save(one) for one in slices])
            made[shape] = Case(slices, scan, explain(predictor, scan))
        return made[shape]

    return make


def write(case: Case, folder: Path, *, patient: bool = True) -> dict[str, Path]:
    files = write_objects(case.scan, case.explained, folder, kinds=KINDS, model=MODEL, patient=patient)
    return dict(zip(KINDS, files, strict=True))


def find_uids(case: Case) -> list[str]:
    return [uid for _, uid in case.scan.files]


# --- valid, and what they say -------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy of dicom3tools is not installed")
@pytest.mark.parametrize("patient", [True, False])
def test_dciodvfy_finds_no_error(make_case: Callable[[str], Case], tmp_path: Path, patient: bool) -> None:
    known = ("99STROKEHUB", "<QUANTITY>", *(() if patient else ("DICOMDIR",)))
    for kind, file in write(make_case("axial"), tmp_path, patient=patient).items():
        done = subprocess.run(["dciodvfy", file], capture_output=True, text=True)
        lines = (done.stdout + done.stderr).splitlines()
        assert not [line for line in lines if "Error" in line], kind
        assert [line for line in lines if "Warning" in line and not any(word in line for word in known)] == [], kind
        assert done.returncode == 0


def test_the_report_says_what_was_answered(make_case: Callable[[str], Case], tmp_path: Path) -> None:
    case = make_case("axial")
    answer = case.explained.prediction
    report = highdicom.sr.srread(write(case, tmp_path)["sr"])
    whole, *each = report.content.get_image_measurement_groups()
    called = [index for index in answer.ranked if answer.slices.label[index] == "Stroke"] or answer.counted
    uids = find_uids(case)
    for group, probability, indices in [
        (whole, answer.probability, answer.counted),
        *zip(each, answer.slices.probability[called], [[index] for index in called], strict=True),
    ]:
        assert group.get_measurements()[0].value == pytest.approx(probability, abs=1e-9)
        assert [image.referenced_sop_instance_uid for image in group.source_images] == [uids[i] for i in indices]
    root = report.ContentSequence
    comments = [item.TextValue for item in root if item.ConceptNameCodeSequence[0].CodeMeaning == "Comment"]
    assert comments == ["Research software, not a medical device.", *answer.remarks]


def test_another_program_reads_the_report(make_case: Callable[[str], Case], tmp_path: Path) -> None:
    file, told = write(make_case("axial"), tmp_path)["sr"], tmp_path / "told.json"
    run_dcmqi("tid1500reader", "--inputDICOM", file, "--outputMetadata", told)
    whole, *each = json.loads(told.read_text())["Measurements"]
    answer = make_case("axial").explained.prediction
    algorithm = whole["measurementAlgorithmIdentification"]
    assert float(whole["measurementItems"][0]["value"]) == pytest.approx(answer.probability, abs=1e-9)
    assert whole["measurementItems"][0]["quantity"]["CodeMeaning"] == "Probability of stroke"
    assert whole["qualitativeEvaluations"][0]["conceptValue"]["CodeMeaning"] == answer.label
    assert (algorithm["AlgorithmName"], algorithm["AlgorithmVersion"]) == ("sample", MODEL["weights_sha256"])
    assert answer.rule in algorithm["AlgorithmParameters"][0]
    assert len(each) == len(answer.counted)


@pytest.mark.parametrize("labels", [["Normal"] * 8, ["Normal", "Stroke"] * 4])
def test_the_key_objects_are_the_slices_called_stroke_or_else_the_highest(
    make_case: Callable[[str], Case], tmp_path: Path, labels: list[str]
) -> None:
    case = make_case("axial")
    answer = case.explained.prediction
    answer = replace(answer, slices=replace(answer.slices, label=labels))
    case = case._replace(explained=replace(case.explained, prediction=answer))
    answer, uids = case.explained.prediction, find_uids(case)
    document = highdicom.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(write(case, tmp_path)["ko"]))
    chosen = [item.referenced_sop_instance_uid for item in document.content.get_references()]
    assert chosen == [uids[i] for i in answer.ranked if labels[i] == "Stroke"] or [uids[i] for i in answer.counted]
    assert len(chosen) == (4 if "Stroke" in labels else answer.weights.astype(bool).sum())
    study, series, _ = document.resolve_reference(chosen[0])
    assert (study, series) == (case.slices[0].StudyInstanceUID, case.slices[0].SeriesInstanceUID)


def test_the_secondary_capture_is_the_contact_sheet(make_case: Callable[[str], Case], tmp_path: Path) -> None:
    case = make_case("axial")
    capture = pydicom.dcmread(write(case, tmp_path)["sc"])
    np.testing.assert_array_equal(capture.pixel_array, np.asarray(case.explained.contact_sheet()))


# --- where the evidence lies --------------------------------------------------------------------------------


def find_centre(case: Case) -> np.ndarray:
    """The centre of positive evidence in DICOM's mm, by the positions that the files themselves state."""
    mass = np.clip(case.explained.evidence.astype(np.float64), 0, None)
    by_uid = {one.SOPInstanceUID: one for one in case.slices}
    columns, rows = np.meshgrid(np.arange(mass.shape[0]), np.arange(mass.shape[1]), indexing="ij")
    total = np.zeros(3)
    for index, uid in enumerate(find_uids(case)):
        ds = by_uid[UID(uid)]
        along = np.reshape(ds.ImageOrientationPatient, (2, 3)) * np.array(ds.PixelSpacing)[::-1, None]
        place = np.array(ds.ImagePositionPatient)[:, None, None]
        at = place + columns * along[0][:, None, None] + rows * along[1][:, None, None]
        total += (at * mass[:, :, index]).sum(axis=(1, 2))
    return total / mass.sum()


def weigh(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The centre of positive values of a volume, through its affine."""
    mass = np.clip(values.astype(np.float64), 0, None)
    indices = np.indices(values.shape).reshape(3, -1) @ mass.ravel() / mass.sum()
    return np.asarray((affine @ np.array([*indices, 1]))[:3])


def run_dcmqi(program: str, *words: object) -> None:
    subprocess.run([Path(sys.executable).with_name(program), *map(str, words)], check=True, capture_output=True)


@pytest.mark.parametrize("shape", ["axial", "oblique", "coronal"])
def test_another_program_finds_the_evidence_where_we_do(
    make_case: Callable[[str], Case], tmp_path: Path, shape: str
) -> None:
    case = make_case(shape)
    file = write(case, tmp_path)["pm"]
    run_dcmqi("paramap2itkimage", "--inputDICOM", file, "--outputDirectory", tmp_path, "-t",
              "nii", "-n", "read")  # fmt: skip
    volume: Any = nibabel.load(tmp_path / "read-pmap.nii.gz")  # type: ignore[attr-defined]  # untyped
    found = weigh(volume.get_fdata(), np.diag([-1, -1, 1, 1]) @ volume.affine)
    np.testing.assert_allclose(found, find_centre(case), atol=0.01)  # mm; a voxel is 1.5 by 1.5 by 6
    whole = highdicom.pm.ParametricMap.from_file(file).get_volume()
    np.testing.assert_allclose(weigh(whole.array, whole.affine), found, atol=0.01)
    assert case.scan.affine is not None
    ours = weigh(case.explained.evidence, np.diag([-1, -1, 1, 1]) @ case.scan.affine)
    np.testing.assert_allclose(found, ours, atol=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_frame_lies_where_its_slice_does(make_case: Callable[[str], Case], tmp_path: Path, shape: str) -> None:
    case = make_case(shape)
    parametric = highdicom.pm.ParametricMap.from_file(write(case, tmp_path)["pm"])
    uids = find_uids(case)
    total, whole = np.zeros(3), 0.0
    for number, group in enumerate(parametric.PerFrameFunctionalGroupsSequence, start=1):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        index = uids.index(source.ReferencedSOPInstanceUID)
        values = parametric.pixel_array[number - 1]
        np.testing.assert_array_equal(values, case.explained.evidence[:, :, index].T)
        to_place = highdicom.spatial.PixelToReferenceTransformer.for_image(parametric, frame_number=number)
        rows, columns = np.indices(values.shape).reshape(2, -1)
        mass = np.clip(values, 0, None).ravel().astype(np.float64)
        total += mass @ to_place(np.stack([columns, rows], axis=1))
        whole += mass.sum()
    np.testing.assert_allclose(total / whole, find_centre(case), atol=0.01)
    assert parametric.FrameOfReferenceUID == case.slices[0].FrameOfReferenceUID
    assert (case.scan.affine is None) == (shape == "gantry")


def test_frames_of_one_file_are_referred_to_by_their_numbers(predictor: Predictor, tmp_path: Path) -> None:
    ds = pydicom.dcmread(io.BytesIO(as_enhanced()))
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.FrameOfReferenceUID = "1.2.9"
    scan = load_scan(save(ds))
    case = Case([ds], scan, explain(predictor, scan))
    files = write(case, tmp_path)
    frames = [origin.frame for origin in scan.origins]
    assert frames == [6, 5, 4, 3, 2, 1]
    parametric = pydicom.dcmread(files["pm"])
    for group, values in zip(parametric.PerFrameFunctionalGroupsSequence, parametric.pixel_array, strict=True):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert (source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID) == (
            ds.SOPClassUID,
            ds.SOPInstanceUID,
        )
        index = frames.index(source.ReferencedFrameNumber)
        np.testing.assert_array_equal(values, case.explained.evidence[:, :, index].T)
        stated = ds.PerFrameFunctionalGroupsSequence[source.ReferencedFrameNumber - 1].PlanePositionSequence[0]
        placed = group.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(placed, stated.ImagePositionPatient)
    keys = highdicom.ko.KeyObjectSelectionDocument.from_dataset(
        pydicom.dcmread(files["ko"])
    ).content.get_references()
    answer = case.explained.prediction
    called = [i for i in answer.ranked if answer.slices.label[i] == "Stroke"] or answer.counted
    assert [item.referenced_frame_numbers for item in keys] == [[frames[i]] for i in called]


# --- of whom ------------------------------------------------------------------------------------------------


def test_the_patient_is_repeated_where_asked_and_nothing_else_of_the_file(
    make_case: Callable[[str], Case], tmp_path: Path
) -> None:
    case = make_case("axial")
    for file in write(case, tmp_path).values():
        made = pydicom.dcmread(file)
        assert {name: str(made[name].value) for name in FIELDS} == FIELDS
        assert made.StudyInstanceUID == case.slices[0].StudyInstanceUID
        assert not [text for text in UNASKED.values() if text.encode() in file.read_bytes()]


def test_no_field_of_a_patient_is_in_what_a_demo_gives(make_case: Callable[[str], Case], tmp_path: Path) -> None:
    case = make_case("axial")
    studies = set()
    for file in write(case, tmp_path, patient=False).values():
        content, made = file.read_bytes(), pydicom.dcmread(file)
        assert not [
            text for text in (*FIELDS.values(), *UNASKED.values()) if text.encode() in content and text != "F"
        ]
        assert not any(made.get(name) for name in FIELDS)
        studies.add(made.StudyInstanceUID)
    assert len(studies) == 1
    assert case.slices[0].StudyInstanceUID not in studies
    report, parametric = (pydicom.dcmread(tmp_path / FILES[kind]) for kind in ("sr", "pm"))
    stated = report.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID
    other = parametric.StudiesContainingOtherReferencedInstancesSequence[0].StudyInstanceUID
    assert stated == other == case.slices[0].StudyInstanceUID


def test_names_in_other_letters_and_wrong_fields_do_no_harm(
    predictor: Predictor, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"}
    wrong = {"PatientSex": "SECRET", "PatientBirthDate": "SECRET", "StudyTime": "SECRET"}
    with silence():
        scan = load_scan([save(one) for one in make_slices("axial", **more, **wrong)])
    for file in write(Case([], scan, explain(predictor, scan)), tmp_path).values():
        made = pydicom.dcmread(file)
        assert str(made.PatientName) == more["PatientName"]
        assert not made.PatientSex
        assert not made.PatientBirthDate
        assert not made.StudyTime
    told = capfd.readouterr()
    assert "SECRET" not in told.out + told.err
    assert "Yamada" not in told.out + told.err


# --- what cannot be done ------------------------------------------------------------------------------------


def drop(*names: str) -> list[Dataset]:
    slices = make_slices("axial")
    for one in slices:
        for name in names:
            delattr(one, name)
    return slices


def name_alike() -> list[Dataset]:
    slices = make_slices("axial")
    for one in slices:
        one.SOPInstanceUID = "1.2.3"
    return slices


def place_mosaic() -> bytes:
    """A mosaic that says all a map needs, but one place for all of its tiles."""
    ds = pydicom.dcmread(MOSAIC)
    ds.FrameOfReferenceUID = "1.2.9"
    return save(ds)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (lambda: as_nifti().to_bytes(), "is no DICOM study"),
        (lambda: [save(one) for one in drop("StudyInstanceUID")], "does not say to which study"),
        (lambda: [save(one) for one in name_alike()], "several files have one instance UID"),
        (lambda: [save(one) for one in drop("FrameOfReferenceUID")], "leave pm out"),
        (lambda: [save(one) for one in drop("ImagePositionPatient")], "leave pm out"),
        (place_mosaic, "several slices have one position"),
    ],
)
def test_what_has_no_place_is_refused_in_a_sentence(
    predictor: Predictor, tmp_path: Path, source: Callable[[], Any], sentence: str
) -> None:
    scan = load_scan(source())
    with pytest.raises(UnreadableImage, match=sentence):
        write(Case([], scan, explain(predictor, scan)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_extra(
    make_case: Callable[[str], Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case("axial")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingExtra, match=r"stroke-hub\[dicom\]"):
        write(case, tmp_path)


def test_kinds_are_a_list_with_commas() -> None:
    assert choose_kinds("SC, pm,sc") == ("sc", "pm")
    for wrong in ("", "sc,x"):
        with pytest.raises(RunError, match="give some of sc, sr, pm, ko"):
            choose_kinds(wrong)
