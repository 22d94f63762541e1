"""The handler of a Hugging Face Inference Endpoint; `publish` puts this file beside a model, as handler.py."""

import base64
import binascii
from typing import Any

from stroke_hub.errors import StrokeHubError
from stroke_hub.inference.predictor import Predictor
from stroke_hub.io.slices import load_slices

__all__ = ["EndpointHandler"]

MAX_PIXELS = 16_000_000


class EndpointHandler:
    """What an endpoint loads and calls; nothing that it is sent is kept or logged."""

    def __init__(self, path: str = "") -> None:
        """Load the model from the folder of its repository."""
        self.predictor = Predictor.from_pretrained(path)

    def __call__(self, data: dict[str, Any]) -> list[dict[str, Any]] | dict[str, str]:
        """Answer a request: `inputs` holds the bytes of a file, the same as base64 text, or a PIL picture.

        Returns
        -------
        For each slice label, score (probability of that label), stroke_probability, unusual and remarks; or error,
        a sentence.
        """
        inputs = data.get("inputs")
        try:
            content = base64.b64decode(inputs, validate=True) if isinstance(inputs, str) else inputs
            found = self.predictor.predict(load_slices(content, max_pixels=MAX_PIXELS))  # type: ignore[arg-type]
        except binascii.Error:
            return {"error": "inputs is not base64; send the bytes of a file, or these as base64."}
        except (StrokeHubError, TypeError, ValueError) as error:
            return {"error": str(error)}
        return [
            {
                "label": found.label[i],
                "score": float(p if found.label[i] == "Stroke" else 1 - p),
                "stroke_probability": float(p),
                "unusual": bool(found.unusual[i]),
                "remarks": list(found.remarks[i]),
            }
            for i, p in enumerate(found.probability)
        ]
