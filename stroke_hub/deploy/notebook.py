"""The notebook beside a published model: load it, predict, explain; with pictures that come with the package."""

import json
from typing import Any

__all__ = ["NOTEBOOK_FILE", "make_notebook"]

NOTEBOOK_FILE = "notebook.ipynb"
DISCLAIMER = "Research software, not a medical device. It must not be used for diagnosis."


def make_notebook(repo_id: str, *, exported: bool) -> str:
    """Make the notebook of a model on the Hub, as JSON (nbformat 4.5).

    Parameters
    ----------
    repo_id : "owner/name".
    exported : whether its export is there, so that ONNX Runtime answers and PyTorch is not needed.
    """
    package, loader = ("stroke-hub", "Predictor") if exported else ("stroke-hub[torch]", "ResNetViT")
    cells = [
        _write_text(f"# {repo_id}\n\nStroke or normal on one slice of a brain CT or MR scan. {DISCLAIMER}"),
        _write_code(f"# %pip install '{package}'"),
        _write_text("Load the model. `revision` pins it to a commit, which never changes."),
        _write_code(
            f"from stroke_hub import {loader}, explain, load_slices, predict\n\n"
            f"model = {loader}.from_pretrained({repo_id!r}, revision='main')\nmodel"
        ),
        _write_text(
            "Take your own PNG, JPEG, DICOM or NIfTI file instead. This slice comes with the package. It is "
            "**simulated, not a patient**."
        ),
        _write_code(
            "from stroke_hub.models.sample import EXAMPLE\n\nslices = load_slices(EXAMPLE)\npredict(model, slices)"
        ),
        _write_text("Why? Heatmaps of the CNN, of the transformer and of both; and what each branch contributed."),
        _write_code("e = explain(model, slices[0])\ne"),
        _write_code("e.contributions, e.remarks"),
    ]
    named = [cell | {"id": f"cell-{number}"} for number, cell in enumerate(cells)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    book = {"cells": named, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(book, indent=1) + "\n"


def _write_text(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def _write_code(text: str) -> dict[str, Any]:
    source = text.splitlines(keepends=True)
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
