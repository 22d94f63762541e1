"""Stroke or normal on brain CT ("BT") and MR slices, and why. Research software, not a medical device.

Public names load on first use, from the homes that __init__.pyi lists: importing this package imports neither
torch nor matplotlib nor gradio.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
