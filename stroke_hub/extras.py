"""Optional packages: which extra of the installation brings each, said in one sentence where it is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from stroke_hub.errors import MissingExtra

__all__ = ["EXTRAS", "name_extras"]

# by the name that is imported; what the core needs is not here
EXTRAS = {
    "torch": "torch",
    "torchvision": "torch",
    "timm": "torch",
    "safetensors": "torch",
    "accelerate": "train",
    "albumentations": "train",
    "cv2": "train",
    "kagglehub": "train",
    "matplotlib": "train",
    "nilearn": "train",
    "pytorch_grad_cam": "train",
    "scipy": "train",
    "sklearn": "train",
    "torchmetrics": "train",
    "imagecodecs": "dicom",
    "highdicom": "dicom",
    "gradio": "demo",
    "mcp": "mcp",
    "onnx": "export",
    "onnxscript": "export",
    "datasets": "hub-datasets",
    "pyarrow": "parquet",
    "ray": "ray",
    "transformers": "transformers",
}


@contextmanager
def name_extras(what: str, extra: str | None = None) -> Iterator[None]:
    """Turn the failed import of an optional package into a sentence that says how to install it.

    Parameters
    ----------
    what : needs the package, as a sentence begins.
    extra : brings all that it needs; by default that of the package which is missing first.

    Raises
    ------
    MissingExtra : an optional package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        name = extra or EXTRAS[package]
        raise MissingExtra(
            f"{what} needs {package}, which is not installed; run `pip install 'stroke-hub[{name}]'`."
        ) from None
