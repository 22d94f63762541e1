#!/usr/bin/env python
"""Write colormaps.json, the colours of the maps: `python scripts/make_colormaps.py`."""

import base64
import json

from stroke_hub.inference.colormaps import FILE

NAMES = ("inferno", "viridis", "cividis", "RdBu_r")


def build_tables() -> dict[str, str]:
    """Build 256 colours of three bytes each, as base64, by matplotlib's name."""
    import matplotlib
    import numpy as np

    steps = np.arange(256)
    colours = {name: matplotlib.colormaps[name](steps, bytes=True)[:, :3] for name in NAMES}
    return {name: base64.b64encode(colour.tobytes()).decode() for name, colour in colours.items()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(build_tables(), indent=1) + "\n", encoding="utf-8")
