"""Only until the branch that brings these is merged."""

from typing import Any


def patch() -> None:
    """Give what the other branch brings."""
    import numpy as np

    from stroke_hub import explanation, inference

    e: Any = explanation.Explanation
    p: Any = inference.Prediction
    if not hasattr(e, "unusual"):
        e.unusual, e.distance = False, 1.0
        p.unusual = property(lambda s: np.zeros(len(s.label), bool))
        p.distance = property(lambda s: np.ones(len(s.label)))
