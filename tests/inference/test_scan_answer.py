"""A scan has one answer, and the shares of its slices, branches and voxels add up to it."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import onnx
import pytest
from nibabel.funcs import as_closest_canonical
from nibabel.orientations import axcodes2ornt, ornt_transform
from numpy.typing import NDArray

from stroke_hub import (
    ModelFormatError,
    Predictor,
    Records,
    ResNetViT,
    RunError,
    ScanExplanation,
    ScanPrediction,
    Slice,
    explain,
    load_scan,
    load_slices,
    predict,
)
from stroke_hub.inference.onnx_model import ExportedModel
from stroke_hub.metrics.highest_mean import HighestMean
from stroke_hub.models.sample import locate_model
from stroke_hub.models.weights import halve_weights
from stroke_hub.scan.scan import Scan
from tests.scan.studies import as_nifti

RULE = HighestMean(highest=2, width=3, scale=0.75, shift=-0.5, threshold=0.25)
AFFINE = np.array([[-0.5, 0, 0, 60], [0, 0.5, 0, -70], [0, 0, 5, -20], [0, 0, 0, 1.0]])


def make_scan(slices: Sequence[Slice], affine: NDArray[np.float64] | None = AFFINE) -> Scan:
    rows, columns = slices[0].pixels.shape
    shape = (columns, rows, len(slices))
    return Scan(slices, np.arange(len(slices)) * 5.0, shape, affine, "BT", "made", remarks=("Odd.",))


@pytest.fixture(scope="module")
def slices(sample: Records) -> list[Slice]:
    """Seven simulated slices, wider than high, so that their squares have margins."""
    rows = sample.table[sample.table["modality"] == "BT"]
    paths = [*rows[rows["label"] == 0]["path"][:4], *rows[rows["label"] == 1]["path"][:3]]
    found = [load_slices(sample.root / path, modality="BT")[0] for path in paths]
    height, width = (min(one.pixels.shape[axis] for one in found) for axis in (0, 1))
    return [Slice(one.pixels[20 : height - 20, :width], "BT") for one in found]


@pytest.fixture(scope="module")
def model() -> ResNetViT:
    return ResNetViT.from_pretrained("sample")


@pytest.fixture(scope="module")
def export() -> ExportedModel:
    return ExportedModel.from_pretrained("sample")


@pytest.fixture
def graph() -> onnx.ModelProto:
    """The sample's export, with the metadata that it has."""
    found = onnx.load(Path(locate_model("sample")) / "onnx" / "model.onnx")
    assert [one.key for one in found.metadata_props] == ["stroke_hub"]
    return found


@pytest.fixture(name="ruled")
def give_ruled(model: ResNetViT) -> Iterator[ResNetViT]:
    model.store_scan_rule(RULE)
    yield model
    model.scan_rule = None


def add_up(found: ScanExplanation) -> float:
    return (
        float(found.evidence.sum(dtype=np.float64) + found.outside + found.contributions[:, 2].sum()) + found.shift
    )


def test_all_shares_add_up_with_the_rule_of_the_model(ruled: ResNetViT, slices: list[Slice]) -> None:
    found = explain(ruled, make_scan(slices), batch_size=2)
    assert add_up(found) == pytest.approx(found.prediction.log_odds, abs=2e-4)
    assert found.contributions.sum() + found.shift == pytest.approx(found.prediction.log_odds, abs=2e-4)
    assert found.shift == RULE.shift
    assert abs(found.outside) > 1e-3  # the slices are wider than high: their squares have margins
    weighted = found.prediction.weights > 0
    assert 2 <= weighted.sum() < len(slices)
    assert np.array_equal(np.abs(found.evidence).sum(axis=(0, 1)) > 0, weighted)
    assert (found.contributions[~weighted] == 0).all()


def test_each_slice_has_its_share_of_its_own_explanation(ruled: ResNetViT, slices: list[Slice]) -> None:
    found = explain(ruled, make_scan(slices))
    for index in np.flatnonzero(found.prediction.weights):
        own = found.explain_slice(int(index))
        factor = RULE.scale * found.prediction.weights[index]
        shares = [factor * own.contributions[name] for name in ("cnn", "vit", "baseline")]
        assert found.contributions[index] == pytest.approx(shares, abs=1e-4)


def test_export_and_torch_agree(export: ExportedModel, model: ResNetViT, slices: list[Slice]) -> None:
    scan = make_scan(slices)
    ours, theirs = explain(model, scan), explain(export, scan)
    assert add_up(theirs) == pytest.approx(theirs.prediction.log_odds, abs=2e-4)
    assert theirs.prediction.log_odds == pytest.approx(ours.prediction.log_odds, abs=1e-4)
    assert theirs.contributions == pytest.approx(ours.contributions, abs=1e-4)
    assert theirs.evidence == pytest.approx(ours.evidence, abs=1e-4)
    assert theirs.prediction.ranked == ours.prediction.ranked


def test_answer_is_that_of_the_slices_by_the_rule(ruled: ResNetViT, slices: list[Slice]) -> None:
    answer = predict(ruled, make_scan(slices), batch_size=3)
    assert isinstance(answer, ScanPrediction)
    alone = predict(ruled, slices)
    assert answer.slices.logits == pytest.approx(alone.logits, abs=1e-4)
    assert answer.slices.label == alone.label
    z = np.log(alone.probability) - np.log1p(-alone.probability)
    ends = [z[:2].mean(), *(z[i : i + 3].mean() for i in range(len(z) - 2)), z[-2:].mean()]
    expected = 0.75 * np.mean(sorted(ends)[-2:]) - 0.5
    assert answer.log_odds == pytest.approx(expected, abs=1e-4)
    assert answer.probability == pytest.approx(1 / (1 + np.exp(-expected)), abs=1e-4)
    assert answer.label == ("Stroke" if answer.probability >= 0.25 else "Normal")
    assert answer.ranked[0] == int(alone.probability.argmax())
    assert answer.rule == "the mean of the 2 highest slices, each averaged with its neighbours"
    assert "Odd." in answer.remarks
    assert not any("no scan rule" in one for one in answer.remarks)


def test_default_rule_is_said(model: ResNetViT, slices: list[Slice]) -> None:
    answer = predict(Predictor(model), make_scan(slices))
    z = np.log(answer.slices.probability) - np.log1p(-answer.slices.probability)
    assert answer.log_odds == pytest.approx(np.sort(z)[-3:].mean(), abs=1e-4)
    assert any("stores no scan rule" in one and "mean of the 3 highest" in one for one in answer.remarks)


def test_scan_of_one_slice(model: ResNetViT, slices: list[Slice]) -> None:
    found = explain(model, make_scan(slices[-1:]))
    own = explain(model, slices[-1])
    assert found.prediction.log_odds == pytest.approx(own.log_odds, abs=1e-4)
    assert found.prediction.weights.tolist() == [1]
    assert add_up(found) == pytest.approx(own.log_odds, abs=2e-4)


def test_slices_are_decoded_and_let_go(model: ResNetViT, slices: list[Slice]) -> None:
    class Counted(Sequence[Slice]):
        held = most = 0

        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int) -> Slice:  # type: ignore[override]
            import weakref

            one = replace(slices[index % len(slices)])
            Counted.held += 1
            Counted.most = max(Counted.most, Counted.held)
            weakref.finalize(one, self.let_go)
            return one

        def let_go(self) -> None:
            Counted.held -= 1

    scan = replace(make_scan(slices), slices=Counted(), shape=(*slices[0].pixels.shape[::-1], 40))
    explain(model, scan, batch_size=4)
    assert Counted.most <= 9  # two batches, and the one that says how large a slice is


def test_unusual_slices_are_counted(model: ResNetViT) -> None:
    blank = [Slice(np.zeros((64, 64), np.uint8), "BT") for _ in range(3)]
    answer = predict(model, make_scan(blank))
    assert any("does not look like a head" in one for one in answer.remarks)
    assert any("3 of 3 slices" in one for one in answer.remarks)


def test_rule_survives_saving(ruled: ResNetViT, tmp_path: Path) -> None:
    ruled.save_pretrained(tmp_path)
    assert ResNetViT.from_pretrained(tmp_path).get_scan_rule() == RULE
    assert Predictor(ResNetViT.from_pretrained(tmp_path)).scan_rule == RULE


def test_rule_stays_whole_in_half_precision(ruled: ResNetViT) -> None:
    halved = halve_weights(dict(ruled.state_dict()))
    assert halved["scan_rule"].tolist() == ruled.state_dict()["scan_rule"].tolist()


@pytest.mark.parametrize(("place", "number"), [(0, 2.5), (0, 0), (1, 2), (2, 0), (2, -1), (4, 1.5)])
def test_impossible_rule_is_refused(ruled: ResNetViT, tmp_path: Path, place: int, number: float) -> None:
    assert ruled.scan_rule is not None
    ruled.scan_rule[place] = number
    ruled.save_pretrained(tmp_path)
    with pytest.raises(ModelFormatError):
        ResNetViT.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("said", "fine"),
    [
        ({"highest": 2, "width": 3, "scale": 0.75, "shift": -0.5, "threshold": 0.25}, True),
        ({"highest": 2, "width": 3, "scale": 0.75, "shift": -0.5, "threshold": 2.0}, False),
        ({"highest": True, "width": 3, "scale": 0.75, "shift": -0.5, "threshold": 0.25}, False),
        ({"highest": 2, "more": 1}, False),
        ([2, 3], False),
    ],
)
def test_export_gives_its_rule_and_refuses_what_is_none(
    graph: onnx.ModelProto, slices: list[Slice], tmp_path: Path, said: Any, fine: bool
) -> None:
    settings = json.loads(graph.metadata_props[0].value) | {"scan_rule": said}
    graph.metadata_props[0].value = json.dumps(settings)
    onnx.save(graph, tmp_path / "model.onnx")
    if not fine:
        with pytest.raises(ModelFormatError, match="metadata"):
            ExportedModel(tmp_path / "model.onnx", "fp32", name="ours")
        return
    found = explain(ExportedModel(tmp_path / "model.onnx", "fp32", name="ours"), make_scan(slices))
    assert found.shift == RULE.shift
    assert add_up(found) == pytest.approx(found.prediction.log_odds, abs=2e-4)
    assert not any("no scan rule" in one for one in found.prediction.remarks)


def test_evidence_is_saved_over_the_scan(model: ResNetViT, slices: list[Slice], tmp_path: Path) -> None:
    found = explain(model, make_scan(slices))
    for name in ("evidence.nii.gz", "evidence.nii"):
        found.save(tmp_path / name)
        image = nibabel.load(tmp_path / name)
        assert np.array_equal(np.asarray(image.dataobj), found.evidence)
        assert image.affine == pytest.approx(AFFINE)
        assert image.get_data_dtype() == np.float32
    assert {path.name for path in tmp_path.iterdir()} == {"evidence.nii.gz", "evidence.nii"}


def test_display_is_the_fused_map_as_it_is_drawn(ruled: ResNetViT, slices: list[Slice], tmp_path: Path) -> None:
    found = explain(ruled, make_scan(slices))
    found.save(tmp_path / "display.nii.gz", layer="display")
    image = nibabel.load(tmp_path / "display.nii.gz")
    values = np.asarray(image.dataobj)
    assert image.affine == pytest.approx(AFFINE)
    for index in range(len(slices)):
        own = found.explain_slice(index)
        drawn = own.framed.lift(own.get_shown("fused")) * (found.prediction.weights[index] > 0)
        strongest = np.abs(drawn).max() or 1
        np.testing.assert_allclose(values[:, :, index].T, drawn / strongest, atol=1e-3)
    assert np.abs(values).max() == pytest.approx(1)


def test_evidence_lies_over_the_scan_in_any_orientation(model: ResNetViT) -> None:
    volume = as_nifti()
    upright = explain(model, load_scan(volume.to_bytes(), modality="BT"))
    assert add_up(upright) == pytest.approx(upright.prediction.log_odds, abs=2e-4)
    turned = volume.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt("PIL")))
    found = explain(model, load_scan(turned.to_bytes(), modality="BT"))
    assert found.prediction.log_odds == pytest.approx(upright.prediction.log_odds, abs=1e-4)
    back = as_closest_canonical(nibabel.Nifti1Image(found.evidence, turned.affine))
    straight = as_closest_canonical(nibabel.Nifti1Image(upright.evidence, volume.affine))
    assert back.get_fdata() == pytest.approx(straight.get_fdata(), abs=1e-5)


def test_voxels_that_are_no_squares_keep_the_sum(model: ResNetViT) -> None:
    volume = as_nifti()
    values = np.asarray(volume.dataobj)[::2]  # columns twice as wide as rows are high
    affine = volume.affine @ np.diag([2, 1, 1, 1])
    scan = load_scan(nibabel.Nifti1Image(values, affine).to_bytes(), modality="BT")
    found = explain(model, scan)
    assert found.evidence.shape == values.shape
    assert add_up(found) == pytest.approx(found.prediction.log_odds, abs=2e-4)
    shown = found.give_display()  # its values are kept, not its sum
    assert shown.shape == values.shape
    assert 0.5 < np.abs(shown).max() <= 1


def test_refuses_to_save_without_a_grid(model: ResNetViT, slices: list[Slice], tmp_path: Path) -> None:
    found = explain(model, make_scan(slices, affine=None))
    with pytest.raises(RunError, match=r"tilted gantry, gaps, uneven spacing"):
        found.save(tmp_path / "evidence.nii.gz")
    with pytest.raises(ValueError, match=re.escape("evidence.png")):
        found.save(tmp_path / "evidence.png")
    assert not list(tmp_path.iterdir())


def test_contact_sheet_shows_the_highest_slices(model: ResNetViT, slices: list[Slice]) -> None:
    sheet = explain(model, make_scan(slices)).contact_sheet()
    assert sheet.mode == "RGB"
    assert np.asarray(sheet).std() > 10
    assert sheet.width > sheet.height


def test_refuses_what_a_scan_does_not_have(model: ResNetViT, slices: list[Slice]) -> None:
    with pytest.raises(ValueError, match="for Stroke"):
        Predictor(model).explain(make_scan(slices), target="Normal")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="no slices"):
        predict(model, replace(make_scan(slices), slices=[]))
    with pytest.raises(IndexError, match="slices 0 to 6"):
        explain(model, make_scan(slices)).explain_slice(7)
