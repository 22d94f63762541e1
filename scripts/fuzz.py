"""Feed mutated files to load_slices and load_files, and report whatever is not a slice or a sentence.

    python scripts/fuzz.py --minutes 10 --out runs/fuzz

Every input is made from its seed, so `--seed N --minutes 0` shows one again. Findings: an exception other than
UnreadableImage, a warning, anything on standard error, more than 5 seconds, growing memory.
"""

import contextlib
import io
import os
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from hostile import list_hostile, make_compressed, make_valid

from stroke_hub import UnreadableImage, load_files, load_slices
from stroke_hub.progress import say

SLOW = 5.0  # seconds for one file of at most some 100 KB, on a core that others use too
GROWTH = 300.0  # MiB over the first thousand inputs: beyond what allocators keep
MAX_FIXTURE = 200_000  # bytes: mutating megabytes of zeros finds nothing
MAX_PIXELS = 4_000_000


def read_fixtures() -> list[bytes]:
    """Good and hostile files of this package's tests, and the small files that pydicom ships."""
    import pydicom

    shipped = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
    contents = [*make_valid().values(), *make_compressed().values(), *(one.content for one in list_hostile())]
    contents += [path.read_bytes() for path in shipped]
    return [content for content in contents if 0 < len(content) <= MAX_FIXTURE]


def mutate(fixtures: list[bytes], seed: int) -> bytes:
    """One input: a fixture with one to eight bytes, lengths, cuts or splices changed, headers more often."""
    rng = np.random.default_rng(seed)
    content = bytearray(fixtures[rng.integers(len(fixtures))])
    for _ in range(rng.integers(1, 9)):
        place = int(rng.random() ** 2 * max(1, len(content) - 1))
        match rng.integers(6):
            case 0:
                content[place : place + 1] = bytes([content[place] ^ (1 << rng.integers(8))]) if content else b""
            case 1:
                content[place : place + 1] = rng.bytes(1)
            case 2:  # a length field
                value = int(rng.choice([0, 1, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF]))
                size = int(rng.choice([1, 2, 4]))
                order = "little" if rng.random() < 0.7 else "big"
                content[place : place + size] = (value & (256**size - 1)).to_bytes(size, order)
            case 3:
                del content[place : place + int(rng.integers(1, 64))]
            case 4:
                other = fixtures[rng.integers(len(fixtures))]
                start = int(rng.integers(len(other)))
                content[place:place] = other[start : start + int(rng.integers(1, 256))]
            case _ if rng.random() < 0.2:
                del content[int(rng.integers(len(content) + 1)) :]
    return bytes(content)


def try_input(content: bytes) -> str:
    """What is wrong with how the package takes these bytes, or ""."""
    begun = time.perf_counter()
    said = io.StringIO()
    with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stderr(said):
        warnings.simplefilter("always")
        try:
            load_slices(content, max_pixels=MAX_PIXELS)
        except UnreadableImage:
            pass
        except BaseException as error:
            return f"load_slices: {type(error).__name__}: {error}"
        try:
            for file in load_files(content, max_pixels=MAX_PIXELS):
                if bool(file.slices) == bool(file.error) or not file.error.isprintable():
                    return f"load_files: {len(file.slices)} slices and the error {file.error!r}"
        except BaseException as error:
            return f"load_files: {type(error).__name__}: {error}"
    seconds = time.perf_counter() - begun
    if warned:
        return f"warning: {warned[0].message}"
    if said.getvalue():
        return f"standard error: {said.getvalue()[:200]}"
    return f"{seconds:.1f} s" if seconds > SLOW else ""


def fuzz(
    *,
    minutes: float = 10.0,
    seed: int = 0,
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs/fuzz"),
) -> None:
    """Try inputs until the time is over; each that is a finding is printed and saved.

    Args:
        minutes: how long; 0 tries one input.
        seed: of the first input; each further one has the next number.
        out: a folder for the findings, and for the input being tried, should the process die of it.
    """
    os.nice(5)
    out.mkdir(parents=True, exist_ok=True)
    fixtures = read_fixtures()
    begun = said = time.monotonic()
    findings = tried = 0
    base = 0.0
    current = out / "current.bin"
    while True:
        content = mutate(fixtures, seed + tried)
        current.write_bytes(content)
        finding = try_input(content)
        tried += 1
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if tried == 1000:
            base = memory
        if base and memory > base + GROWTH:
            finding = finding or f"memory grew from {base:.0f} to {memory:.0f} MiB"
            base = memory
        if finding:
            findings += 1
            (out / f"{seed + tried - 1}.bin").write_bytes(content)
            print(f"seed {seed + tried - 1}: {finding}", flush=True)
        now = time.monotonic()
        if now - said > 30:
            say(f"{tried:,} inputs, {findings} findings, peak {memory:.0f} MiB, {now - begun:.0f} s")
            said = now
        if now - begun >= 60 * minutes:
            break
    current.unlink()
    print(f"{tried:,} inputs in {time.monotonic() - begun:.0f} s: {findings} findings, peak {memory:.0f} MiB")
    sys.exit(bool(findings))


if __name__ == "__main__":
    tyro.cli(fuzz)
