"""The same slice gets the same answer, whatever file it comes in."""

import numpy as np
import pytest
from PIL import Image

from stroke_hub import Prediction, ResNetViT, Slice, load_slices, predict
from stroke_hub.data.simulated import Lesion, Scan, simulate_patient
from stroke_hub.io.rendering import CT_PICTURE
from tests.io.test_rendering import encode, put

PATIENTS: dict[str, list[tuple[Scan, Lesion]]] = {
    "BT": [("CT", "none"), ("CT", "none"), ("CT", "infarct"), ("CT", "bleed")],
    "MR": [("DWI", "none"), ("FLAIR", "none"), ("DWI", "infarct"), ("FLAIR", "infarct")],
}


def simulate(modality: str) -> list[np.ndarray]:
    """Twenty slices, half of them stroke: HU in whole numbers, or MR of 12 bits."""
    rng, found = np.random.default_rng(0), []
    for seed, (scan, lesion) in enumerate(PATIENTS[modality]):
        for one in simulate_patient((100, seed), scan, lesion, slices=5, size=256):
            noise = rng.normal(0, 2.8 if scan == "CT" else 0.02, one.clean.shape)
            scale = 1 if scan == "CT" else 1500
            found.append(np.rint(np.abs(one.clean + noise) * scale if scale > 1 else one.clean + noise))
    return [one.astype(np.int16) for one in found]


def write_picture(values: np.ndarray, modality: str, *, centre: float = 40, width: float = 80) -> np.ndarray:
    """What a viewer exports: CT in a window, MR from 0 to its largest value."""
    low, high = (centre - width / 2, centre + width / 2) if modality == "BT" else (0, values.max())
    return np.rint((values.astype(float).clip(low, high) - low) / (high - low) * 255).astype(np.uint8)


def write_files(values: np.ndarray, modality: str) -> dict[str, object]:
    picture = write_picture(values, modality)
    return put(values, modality) | {
        "8-bit PNG": encode(Image.fromarray(picture), "PNG"),
        "8-bit array": picture,
        "16-bit PNG of the picture": encode(Image.fromarray(picture.astype(np.uint16) * 257), "PNG"),
    }


def ask(model: ResNetViT, sources: list[object], modality: str | None) -> Prediction:
    slices: list[Slice] = [load_slices(source, modality=modality)[0] for source in sources]  # type: ignore[arg-type]
    return predict(model, slices)


@pytest.mark.parametrize("modality", ["BT", "MR"])
def test_no_container_changes_a_call(trained: ResNetViT, modality: str) -> None:
    values = simulate(modality)
    files = [write_files(one, modality) for one in values]
    expected = ask(trained, list(values), modality)
    assert np.ptp(expected.probability) > 0.1  # the model has something to say
    changes = {}
    for kind in files[0]:
        # who writes a header says the modality there
        found = ask(trained, [file[kind] for file in files], None if "DICOM" in kind else modality)
        assert found.label == expected.label, kind
        changes[kind] = float(np.abs(found.probability - expected.probability).max())
        is_picture = modality == "BT" and ("8-bit" in kind or "picture" in kind)
        assert all((CT_PICTURE in told) == is_picture for told in found.remarks), kind
    print(modality, {kind: f"{change:.1g}" for kind, change in changes.items()})
    assert max(changes.values()) <= 0.03


def test_a_picture_cut_by_another_window_is_told(trained: ResNetViT) -> None:
    """Nobody can bring back what a window cut away; whoever reads the answer must know."""
    pictures = [write_picture(one, "BT", centre=300, width=900) for one in simulate("BT")]
    found = ask(trained, list(pictures), "BT")
    assert all(told == (CT_PICTURE,) for told in found.remarks)
