"""Stroke or normal on brain CT ("BT") and MR slices, and why. Research software, not a medical device.

Public names load on first use, from the homes that __init__.pyi lists: importing this package imports neither
torch nor matplotlib nor gradio. A name whose optional packages are missing says how to install them.
"""

from typing import Any

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    from stroke_hub.extras import name_extras

    with name_extras(f"stroke_hub.{name}", "torch" if name == "ResNetViT" else "train"):
        return _load(name)
