"""The endpoints for programs: predict, explain, batch, model_info; by HTTP, gradio_client and MCP."""

import base64
from typing import Any, Literal

import gradio as gr
import numpy as np
from batch import predict_files
from demo_model import METHODS, TARGETS, DemoModel, Settings
from downloads import draw_layer, encode_png
from guards import answer_plainly
from result import list_facts, make_result
from study import read_study
from uploads import UploadSessions, build_upload

from stroke_hub.io.windowing import WINDOWS

__all__ = ["add_endpoints"]

Window = Literal["brain", "stroke", "subdural"]
Target = Literal["Stroke", "Normal", "predicted"]
Method = Literal["relevance", "attention", "gradcam++", "layercam", "eigencam", "eigengradcam"]
LAYERS = ("original", "cnn", "vit", "fused")


def add_endpoints(model: DemoModel, sessions: UploadSessions) -> None:
    """Add the endpoints to the Blocks that are being built; nothing of them is seen on the page."""

    def predict(file: str, window: Window = "brain", request: gr.Request | None = None) -> dict[str, Any]:
        """Tell the probability of stroke of every slice of one file. Research use only, not a medical device.

        Args:
            file: a PNG, JPEG, TIFF, WebP, BMP, DICOM or NIfTI file.
            window: of a CT in Hounsfield units: brain (width 80, centre 40), stroke (40/40), subdural (200/75).

        Returns:
            threshold, most_suspicious (the number of a slice), sha256 (of the file), model, and slices: a list of
            slice (its number from 1), label, probability_of_stroke, unusual, distance.
        """
        sessions.add(request, file)
        study = read_study(file, window)
        prediction = model.predict(study.slices)
        rows = [
            {
                "slice": i + 1,
                "label": prediction.label[i],
                "probability_of_stroke": float(prediction.probability[i]),
                "unusual": bool(prediction.unusual[i]),
                "distance": float(prediction.distance[i]),
            }
            for i in range(len(study.slices))
        ]
        return {
            "threshold": model.threshold,
            "most_suspicious": int(np.argmax(prediction.probability)) + 1,
            "slices": rows,
            "sha256": study.sha256,
            "model": model.describe(),
        }

    def explain(
        file: str,
        slice: int = 1,
        target: Target = "Stroke",
        method: Method = "relevance",
        depth: int = 1,
        window: Window = "brain",
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Explain one slice: log-odds by branch, maps, remarks. Research use only, not a medical device.

        Args:
            file: a PNG, JPEG, TIFF, WebP, BMP, DICOM or NIfTI file.
            slice: number of the slice within the file, from 1.
            target: the class explained.
            method: how the ResNet and ViT maps are computed; "relevance" is the closed form and the fastest.
            depth: transformer blocks that the ViT map looks through, 1 to 4.
            window: of a CT in Hounsfield units: brain (width 80, centre 40), stroke (40/40), subdural (200/75).

        Returns:
            label, probability_of_stroke, threshold, log_odds, contributions (they sum to log_odds), remarks,
            unusual, distance, input, model, and maps: original, cnn, vit and fused, each a PNG as a data URI.
        """
        sessions.add(request, file)
        study = read_study(file, window)
        page = int(slice)
        if not 1 <= page <= len(study.slices):
            count = len(study.slices)
            words = f"slice must be from 1 to {count}." if count > 1 else "The file has one slice: slice must be 1."
            raise gr.Error(words, print_exception=False)
        if not 1 <= int(depth) <= 4:
            raise gr.Error("depth must be from 1 to 4.", print_exception=False)
        settings = Settings(target, method, int(depth))
        explanation = model.explain(study.slices[page - 1], settings)
        facts = list_facts(make_result(model, study, page, settings, explanation))
        maps = {layer: base64.b64encode(encode_png(draw_layer(explanation, layer))).decode() for layer in LAYERS}
        return facts | {"maps": {layer: f"data:image/png;base64,{data}" for layer, data in maps.items()}}

    def batch(
        files: list[str], window: Window = "brain", request: gr.Request | None = None
    ) -> list[dict[str, Any]]:
        """Tell the probability of stroke of every slice of many files. Research use only, not a medical device.

        Args:
            files: PNG, JPEG, TIFF, WebP, BMP, DICOM or NIfTI files, or zips of them.
            window: of a CT in Hounsfield units: brain (width 80, centre 40), stroke (40/40), subdural (200/75).

        Returns:
            a list of file, slice, label, probability_of_stroke, unusual, error (a sentence, where not read).
        """
        if not files:
            raise gr.Error("There are no files; give at least one.", print_exception=False)
        sessions.add(request, *files)
        return [row._asdict() for rows in predict_files(model, files, window) for row in rows]

    def model_info() -> dict[str, Any]:
        """Which model answers: name, commit, classes, threshold, image size, versions.

        Returns:
            model, commit, weights_sha256, classes, threshold, distance_limit, image_size, backend, trained_on,
            versions.
        """
        return model.describe()

    file = build_upload(label="file", visible=False)
    files = build_upload(label="files", file_count="multiple", visible=False)
    window = gr.Radio(list(WINDOWS), value="brain", label="CT window", visible=False)
    page = gr.Number(1, label="slice", precision=0, visible=False)
    target = gr.Radio(list(TARGETS), value="Stroke", label="class", visible=False)
    method = gr.Dropdown(list(METHODS), value="relevance", label="method", visible=False)
    depth = gr.Number(1, label="blocks", precision=0, visible=False)
    answer, trigger = gr.JSON(label="answer", visible=False), gr.Button(visible=False)
    one: dict[str, Any] = {"outputs": answer, "concurrency_id": "slice", "concurrency_limit": 2}
    trigger.click(answer_plainly(predict), [file, window], api_name="predict", **one)
    trigger.click(answer_plainly(explain), [file, page, target, method, depth, window], api_name="explain", **one)
    many = one | {"concurrency_id": "batch", "concurrency_limit": 1}
    trigger.click(answer_plainly(batch), [files, window], api_name="batch", **many)
    gr.api(answer_plainly(model_info), api_name="model_info")  # type: ignore[attr-defined]
