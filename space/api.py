"""The endpoints for programs: predict, explain, scan, batch and model_info, over HTTP, gradio_client and MCP."""

import base64
from typing import Any

import gradio as gr
import numpy as np
from batch import predict_files
from demo_model import METHODS, TARGETS, DemoModel, Method, Settings
from downloads import draw_layer, encode_png
from guards import answer_plainly
from result import list_facts, make_result
from study import MODALITY_CHOICES, WINDOW_CHOICES, ModalityChoice, Reading, WindowChoice, open_scan, read_study
from uploads import UploadSessions, build_upload

from stroke_hub.inference.results import Target, join_predictions

__all__ = ["Endpoints", "add_endpoints"]

LAYERS = ("original", "cnn", "vit", "fused")


def add_endpoints(model: DemoModel, sessions: UploadSessions) -> None:
    """Add the endpoints to the Blocks that are being built; the page shows nothing of them."""
    endpoints = Endpoints(model, sessions)
    file = build_upload(label="file", visible=False)
    files = build_upload(label="files", file_count="multiple", visible=False)
    modality = gr.Radio(list(MODALITY_CHOICES), value="auto", label="modality", visible=False)
    window = gr.Radio(list(WINDOW_CHOICES), value="auto", label="CT window", visible=False)
    page = gr.Number(1, label="slice", precision=0, visible=False)
    target = gr.Radio(list(TARGETS), value="Stroke", label="class", visible=False)
    method = gr.Dropdown(list(METHODS), value="relevance", label="method", visible=False)
    depth = gr.Number(1, label="depth", precision=0, visible=False)
    series = gr.Textbox("", label="series", visible=False)
    answer, trigger = gr.JSON(label="answer", visible=False), gr.Button(visible=False)
    one: dict[str, Any] = {"outputs": answer, "concurrency_id": "slice", "concurrency_limit": 2}
    many: dict[str, Any] = {"outputs": answer, "concurrency_id": "batch", "concurrency_limit": 1}
    settings, reading = [target, method, depth], [window, modality]
    trigger.click(answer_plainly(endpoints.predict), [file, *reading], api_name="predict", **one)
    trigger.click(answer_plainly(endpoints.explain), [file, page, *settings, *reading], api_name="explain", **one)
    trigger.click(answer_plainly(endpoints.scan), [files, series, *reading], api_name="scan", **many)
    trigger.click(answer_plainly(endpoints.batch), [files, *reading], api_name="batch", **many)
    gr.api(answer_plainly(endpoints.model_info), api_name="model_info")  # type: ignore[attr-defined]


class Endpoints:
    """The functions that programs call; their docstrings are the descriptions of the MCP tools."""

    def __init__(self, model: DemoModel, sessions: UploadSessions) -> None:
        self.model, self.sessions = model, sessions

    def predict(
        self,
        file: str,
        window: WindowChoice = "auto",
        modality: ModalityChoice = "auto",
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Predict the probability of stroke for every slice of one file. Research use only, not a medical device.

        Args:
            file: a PNG, JPEG, TIFF, WebP, BMP, DICOM or NIfTI file.
            window: in which CT in Hounsfield units is shown: auto (as the model sees it), brain (width 80, centre
                40), stroke (40/40) or subdural (200/75). Models of config format 1 see this window too.
            modality: CT or MR; auto where the file or the model says.

        Returns:
            threshold, most_suspicious (number of a slice), sha256 (of the file), model, and slices: a list of
            slice (its number, from 1), label, stroke_probability, unusual, distance, remarks (on the picture);
            remarks (on the file: what was chosen, what is odd).
        """
        self.sessions.add(request, file)
        study = read_study(file, Reading(modality, window))
        prediction = join_predictions(list(self.model.predict_parts(study.slices)))
        rows = [
            {
                "slice": i + 1,
                "label": prediction.label[i],
                "stroke_probability": float(prediction.probability[i]),
                "unusual": bool(prediction.unusual[i]),
                "distance": float(prediction.distance[i]),
                "remarks": list(prediction.remarks[i]),
            }
            for i in range(len(study.slices))
        ]
        return {
            "threshold": self.model.threshold,
            "most_suspicious": int(np.argmax(prediction.probability)) + 1,
            "slices": rows,
            "remarks": list(study.remarks),
            "sha256": study.sha256,
            "model": self.model.describe(),
        }

    def explain(
        self,
        file: str,
        slice: int = 1,
        target: Target = "Stroke",
        method: Method = "relevance",
        depth: int = 1,
        window: WindowChoice = "auto",
        modality: ModalityChoice = "auto",
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Explain one slice: log-odds by branch, heatmaps, remarks. Research use only, not a medical device.

        Args:
            file: a PNG, JPEG, TIFF, WebP, BMP, DICOM or NIfTI file.
            slice: number of the slice within the file, from 1.
            target: the class to explain.
            method: how the ResNet and ViT maps are computed; "relevance" is the closed form and the fastest.
            depth: number of transformer blocks that the ViT map looks through, 1 to 4; 1 is gradient x attention,
                more is the relevance of Chefer et al. (2021).
            window: in which CT in Hounsfield units is shown: auto (as the model sees it), brain (width 80, centre
                40), stroke (40/40) or subdural (200/75). Models of config format 1 see this window too.
            modality: CT or MR; auto where the file or the model says.

        Returns:
            label, stroke_probability, threshold, log_odds, contributions (they sum to log_odds), remarks,
            unusual, distance, input, model, and maps: original, cnn, vit and fused, each a PNG as a data URI.
        """
        self.sessions.add(request, file)
        study = read_study(file, Reading(modality, window))
        page, count = int(slice), len(study.slices)
        if not 1 <= page <= count:
            words = f"slice must be from 1 to {count}." if count > 1 else "The file has one slice: slice must be 1."
            raise gr.Error(words, print_exception=False)
        if not 1 <= int(depth) <= 4:
            raise gr.Error("depth must be from 1 to 4.", print_exception=False)
        settings = Settings(target, method, int(depth))
        explanation = self.model.explain(study.slices[page - 1], settings)
        facts = list_facts(make_result(self.model, study, page, settings, explanation))
        maps = {layer: base64.b64encode(encode_png(draw_layer(explanation, layer))).decode() for layer in LAYERS}
        return facts | {"maps": {layer: f"data:image/png;base64,{data}" for layer, data in maps.items()}}

    def scan(
        self,
        files: list[str],
        series: str = "",
        window: WindowChoice = "auto",
        modality: ModalityChoice = "auto",
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Answer for one whole scan, and say why in log-odds. Research use only, not a medical device.

        Args:
            files: one zip file, NIfTI volume or DICOM file of many frames; or all DICOM files of a scan.
            series: which of several series: its number, its description or a part of it, or its UID. Without it
                the one that suits is taken, and remarks say which and why.
            window: in which CT in Hounsfield units is shown: auto (as the model sees it), brain (width 80, centre
                40), stroke (40/40) or subdural (200/75). Models of config format 1 see this window too.
            modality: CT or MR; auto where the file or the model says.

        Returns:
            what `stroke-hub scan` writes as scan.json. Slices are counted from 0, from foot to head. label,
            probability, log_odds, threshold, rule, slices, slices_called_stroke, ranked (slices, the highest
            first), contributions and shift (they sum to log_odds), remarks, asked, model. evidence and display are
            null: there are no files.
        """
        if not files:
            raise gr.Error("There are no files; give at least one.", print_exception=False)
        self.sessions.add(request, *files)
        reading, chosen = Reading(modality, window), series or None
        return self.model.describe_scan(
            open_scan(files, reading, series=chosen), reading.options | {"series": chosen}
        )

    def batch(
        self,
        files: list[str],
        window: WindowChoice = "auto",
        modality: ModalityChoice = "auto",
        request: gr.Request | None = None,
    ) -> list[dict[str, Any]]:
        """Predict the probability of stroke for every slice of many files. Research use only, not a medical device.

        Args:
            files: PNG, JPEG, TIFF, WebP, BMP, DICOM or NIfTI files, or zip files of them.
            window: in which CT in Hounsfield units is shown: auto (as the model sees it), brain (width 80, centre
                40), stroke (40/40) or subdural (200/75). Models of config format 1 see this window too.
            modality: CT or MR; auto where the file or the model says.

        Returns:
            a list of file, slice, label, stroke_probability, unusual, error (why a file could not be read),
            remarks (on the picture).
        """
        if not files:
            raise gr.Error("There are no files; give at least one.", print_exception=False)
        self.sessions.add(request, *files)
        reading = Reading(modality, window)
        return [row._asdict() for rows in predict_files(self.model, files, reading) for row in rows]

    def model_info(self) -> dict[str, Any]:
        """Describe the model: name, commit, classes, threshold, image size, versions.

        Returns:
            model, commit, weights_sha256, classes, threshold, distance_limit, image_size, backend, trained_on,
            versions.
        """
        return self.model.describe()
