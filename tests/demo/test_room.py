"""What the browser is sent of a slice, and which files an upload stands for."""

import base64
from unittest.mock import Mock

import numpy as np
import pytest

from stroke_hub import ResNetViT, explain, load_slices
from tests.fakes.demo_server import ROOT
from tests.inference.test_ood import KINDS
from tests.io.synth import dcm
from tests.scan.studies import save

AXIAL, CORONAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)


@pytest.fixture(autouse=True)
def space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "space")


@pytest.mark.parametrize(("iop", "side"), [(AXIAL, "R"), (CORONAL, "R"), (SAGITTAL, None)])
def test_a_side_is_marked_where_the_plane_has_one(
    trained: ResNetViT, iop: tuple[int, ...], side: str | None
) -> None:
    from demo_model import Settings
    from result import Result
    from room import pack_slice
    from study import Study

    pixels = np.full((32, 32), 24, np.int16)
    pixels[6:26, 8:24] = 1060
    slices = load_slices(save(dcm(pixels, iop=iop)))
    study = Study("head.dcm", "0" * 64, slices, key="1")
    result = Result(explain(trained, slices[0]), study, 1, Settings(), {"threshold": 0.5}, None, "today")
    assert pack_slice(Mock(predictor=trained), study, result)["left"] == side


def test_a_report_of_what_the_model_does_not_know_gives_no_answer(trained: ResNetViT) -> None:
    from demo_model import Settings
    from downloads import make_page
    from result import Result
    from study import Study

    slices = load_slices(KINDS["text"](0))
    e = explain(trained, slices[0])
    assert e.unusual
    about = {
        "model": "m",
        "commit": None,
        "weights_sha256": None,
        "trained_on": None,
        "threshold": 0.5,
        "versions": {},
    }
    page = make_page(Result(e, Study("text.png", "0" * 64, slices), 1, Settings(), about, None, "today"))
    text = base64.b64decode(page["data"]).decode()
    assert '<p class="verdict unknown">No answer</p>' in text
    assert f'<p class="verdict">{e.label}</p>' not in text


@pytest.mark.parametrize(
    ("paths", "given", "opened"),
    [
        (["a", "b"], [], ["a", "b"]),
        (["a", "b", "c"], ["a", "b"], ["c"]),
        (["a", "b", "a", "c"], ["a", "b"], ["a", "c"]),  # one of them was there before
        (["b", "c"], ["a", "b"], ["c"]),  # a row was taken out before
        (["a"], ["a"], ["a"]),
    ],
)
def test_new_files_take_the_place_of_those_before(paths: list[str], given: list[str], opened: list[str]) -> None:
    from explain_tab import ExplainTab

    assert ExplainTab.take_upload(Mock(), paths, given)[1:] == (opened, "auto")
