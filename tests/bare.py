"""What the core does by itself: `.ci/run` runs this where nothing but the bare wheel is installed.

    python tests/bare.py

It needs no pytest. tests/test_core.py runs it with everything hidden that the core does not ask for.
"""

import contextlib
import importlib
import io
import pkgutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import stroke_hub
from stroke_hub.errors import MissingExtra
from stroke_hub.extras import EXTRAS

# modules that need an extra; every other one, and each that is yet to come, is of the core
OPTIONAL = (
    "audit", "data.bleeding", "data.cache", "data.lesions", "data.loader", "data.masks", "data.simulated",
    "datasets.contact_sheet",
    "deploy.export", "deploy.publish", "evaluation.baselines", "evaluation.comparison", "evaluation.controls",
    "evaluation.evaluate", "evaluation.faithfulness", "evaluation.imputation", "evaluation.localisation",
    "evaluation.patients", "evaluation.report_json",
    "evaluation.samples", "inference.cams", "inference.relevance", "models.backbones", "models.branches",
    "models.resnet_vit", "report.card", "report.figures", "report.heatmaps", "report.plots", "training",
)  # fmt: skip


def import_all() -> None:
    """Import each module: those of the core work, and others lack a package that an extra brings."""
    needed = tuple(f"stroke_hub.{name}" for name in OPTIONAL)
    for info in pkgutil.walk_packages(stroke_hub.__path__, "stroke_hub."):
        try:
            importlib.import_module(info.name)
        except MissingExtra as error:
            assert info.name == "stroke_hub.transformers", f"{info.name}: {error}"
        except ModuleNotFoundError as error:
            assert (error.name or "").partition(".")[0] in EXTRAS, f"{info.name} needs {error.name}"
            assert f"{info.name}.".startswith(tuple(f"{name}." for name in needed)), f"{info.name}: {error.name}"


def answer(folder: Path) -> None:
    """Predict and explain, as the README does it, from a picture, a DICOM and a NIfTI file."""
    import nibabel
    import numpy as np
    import pydicom

    from stroke_hub import Predictor, explain, load_scan, load_slices, predict
    from stroke_hub.models.sample import EXAMPLE

    predictor = Predictor.from_pretrained("sample")
    slices = load_slices(EXAMPLE)
    assert predictor.backend == "onnx"
    assert predict(predictor, slices).label == ["Stroke"]
    e = explain(predictor, slices[0])
    assert abs(sum(e.contributions.values()) - e.log_odds) < 1e-3
    e.overlay().save(folder / "why.png")
    volume = np.repeat(slices[0].pixels.T[..., None], 3, axis=2).astype(np.int16)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(folder / "scan.nii.gz")
    shipped = Path(pydicom.__file__).parent / "data" / "test_files"
    for file in (folder / "scan.nii.gz", shipped / "CT_small.dcm", shipped / "693_J2KI.dcm"):
        assert np.isfinite(predict(predictor, file).probability).all(), file
    scan = load_scan(folder / "scan.nii.gz", modality="MR")
    assert 0 <= predict(predictor, scan).probability <= 1  # one answer for all slices


def use_commands(folder: Path) -> None:
    """Run the commands of the core, and see that the others say which extra they need."""
    from stroke_hub.cli.main import COMMANDS, main
    from stroke_hub.models.sample import EXAMPLES, SAMPLE

    slices = sorted(EXAMPLES.glob("[ns]*/*.png"))  # without the masks
    main(["predict", *map(str, slices), "--model", SAMPLE, "--out", str(folder / "p.csv")])
    assert len((folder / "p.csv").read_text(encoding="utf-8").splitlines()) == 1 + len(slices)
    main(["info", SAMPLE])
    for name in COMMANDS:
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                main([name, "--help"])
        except SystemExit as end:
            sentence = f"pip install 'stroke-hub[{COMMANDS[name].extra}]'"
            assert end.code in (0, None) or sentence in str(end.code), (name, end.code)
            assert end.code or said.getvalue().startswith(f"usage: stroke-hub {name}"), name


def name_what_is_missing() -> None:
    """See that what the core cannot do says so."""
    from stroke_hub import Predictor
    from stroke_hub.models.sample import SAMPLE

    for ask, extra in (
        (lambda: stroke_hub.ResNetViT, "torch"),
        (lambda: Predictor.from_pretrained(SAMPLE, backend="torch"), "torch"),
        (lambda: stroke_hub.fit, "train"),
        (lambda: stroke_hub.write_sample, "train"),
        (lambda: importlib.import_module("stroke_hub.transformers"), "transformers"),
    ):
        try:
            ask()
        except MissingExtra as error:
            assert f"pip install 'stroke-hub[{extra}]'" in str(error), error
        else:
            raise AssertionError(f"nothing was missing that {extra} brings")


if __name__ == "__main__":
    installed = [name for name in EXTRAS if find_spec(name) is not None]
    if installed:
        sys.exit(f"error: {', '.join(installed)}: installed, so this is not the core alone.")
    import_all()
    with tempfile.TemporaryDirectory() as place:
        answer(Path(place))
        use_commands(Path(place))
    name_what_is_missing()
    heavy = sorted(set(EXTRAS) & set(sys.modules))
    assert not heavy, heavy
    print(f"{stroke_hub.__file__}: the core works by itself")
