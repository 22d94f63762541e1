"""A whole scan: over its slices one by one, and in the demo from the upload to the answer over the library alone."""

import io
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.timing import Row, describe_ratios, time_in_turns

from stroke_hub import Predictor, load_scan, load_slices, predict
from stroke_hub.data.simulated import write_sample
from stroke_hub.io.sources import load_files
from stroke_hub.models.sample import SAMPLE

SPACE = Path(__file__).parent.parent.parent / "space"
SLICES = 40
SIDE = 512  # pixels of a slice, as scanners make them
ROUNDS = 15
