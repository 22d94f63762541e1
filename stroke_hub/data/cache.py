"""Slices are decoded once: their squares lie in a memory-mapped file, found again by what the image files hold.

The files stand in the folder that `find_cache` names. Each is N squares and then N entries of 64 bytes: the
identity of the square (a SHA-256 of the image file's bytes and its modality), and the SHA-256 of that and the
square. The name is the SHA-256 of all the former, so another order, another selection or a changed image is another
file; it takes the squares that it shares with its neighbours from them. What does not read back as it was written
is written again. All may be deleted at any time.
"""

import contextlib
import functools
import hashlib
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

import numpy as np
import torch
from filelock import FileLock, Timeout
from PIL import features
from torch import Tensor

from stroke_hub import io as io_room
from stroke_hub import scan as scan_room
from stroke_hub.data.contents import hash_content, load_first
from stroke_hub.errors import DatasetError
from stroke_hub.files import atomic_write, find_cache
from stroke_hub.io.sight import Sight, frame_slice, get_own_modality
from stroke_hub.io.windowing import Modality
from stroke_hub.progress import say, track

__all__ = ["read_squares"]

ENTRY = 64  # bytes
WINDOW = 64  # squares decoded ahead of the one written: enough for the threads, and memory stays flat
FORGOTTEN_AFTER = 30 * 24 * 3600  # seconds without use
MAP_NORESERVE = 0x4000  # Linux; a name in Python's mmap from 3.13

# The rooms whose modules make the pixels of a file, and choose the slices of a volume.
DECODERS = tuple(Path(room.__file__ or "").parent for room in (io_room, scan_room))


class Wanted(NamedTuple):
    """A file whose square is wanted, and its modality where somebody named it."""

    file: Path
    modality: Modality | None


Decode: TypeAlias = Callable[[Wanted], tuple[bytes, bytes]]


def read_squares(sight: Sight, files: Sequence[Path], modalities: Sequence[Modality | None]) -> Tensor:
    """Read the first slice of every file as a model's square; decode only what never was before.

    Files are known by the hash of their bytes, which a process computes once (2 % of the time that decoding takes),
    and by the modality that the dataset names.

    Parameters
    ----------
    sight : the model, or what else says how a slice becomes a square.
    files : image files, in the order wanted.
    modalities : of each file; None where nobody says it.

    Returns
    -------
    uint8 (N, S, S) over a private map of the file: pages are read when touched and given up when memory is short;
    what is written into the tensor stays in the tensor. Where the folder cannot be used (no rights, a full disk),
    an ordinary tensor, and a note says so.

    Raises
    ------
    DatasetError : a file cannot be read or decoded; it is named.
    """
    size, decode = sight.image_size, functools.partial(_decode, sight)
    wanted = [Wanted(file, modality) for file, modality in zip(files, modalities, strict=True)]
    hashes = [_identify(one, hash_content(one.file)) for one in track(wanted, "hashing slices")]
    if not files:
        return torch.empty((0, size, size), dtype=torch.uint8)
    try:
        folder = find_cache() / f"{_describe(sight)}-{_identify_decoder()}"
        return _find_or_write(folder, wanted, hashes, decode, size)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder, or no way to lock
        reason = getattr(error, "strerror", None) or error
        say(f"note: decoded slices stay in memory ({reason}); set STROKE_HUB_CACHE to a folder that takes them.")
    squares = np.empty((len(files), size * size), np.uint8)
    for row, square in enumerate(_produce(wanted, hashes, decode, {})):
        squares[row] = np.frombuffer(square, np.uint8)
    return torch.from_numpy(squares).reshape(-1, size, size)


def _describe(sight: Sight) -> str:
    """Describe whatever of a sight could change a square."""
    own = get_own_modality(sight) or "any"
    return f"{sight.image_size}-{sight.resize}-{sight.rendering}-{sight.window}-{sight.framing}-{own}"


def _identify(one: Wanted, content: str) -> bytes:
    """Identify a square by the SHA-256 of its file, 64 hexadecimal digits, and the modality that was named."""
    return hashlib.sha256(f"{content} {one.modality}".encode()).digest()


def _identify_decoder() -> str:
    """Name whatever could change a decoded pixel: the sources of our decoders, and the versions of others'."""
    identity = hashlib.sha256()
    for source in sorted(source for room in DECODERS for source in room.glob("*.py")):
        identity.update(source.read_bytes())
    versions = [features.version(name) for name in ("pil", "jpg", "webp", "libtiff")]
    decoders = ("numpy", "pydicom", "nibabel", "pylibjpeg-openjpeg", "imagecodecs")
    versions += [found.version for name in decoders for found in metadata.distributions(name=name)]
    identity.update(repr(versions).encode())
    return identity.hexdigest()[:16]


# --- image files -> squares ---------------------------------------------------------------------------------


def _decode(sight: Sight, one: Wanted) -> tuple[bytes, bytes]:
    """Decode a file into its identity and its square, both of the same bytes even if somebody is writing it."""
    first, content = load_first(one.file, modality=one.modality)
    return _identify(one, content), frame_slice(sight, first).square.tobytes()


def _produce(
    wanted: Sequence[Wanted],
    hashes: Sequence[bytes],
    decode: Decode,
    known: dict[bytes, Callable[[], bytes | None]],
) -> Iterator[bytes]:
    """The squares in the order wanted, from `known` or decoded by as many threads as torch may use."""

    def produce(one: Wanted, identity: bytes) -> bytes:
        square = known[identity]() if identity in known else None
        if square is None:
            found, square = decode(one)
            if found != identity:
                raise DatasetError(f"{one.file}: changed while it was read; start again.")
        return square

    windows = range(0, len(wanted), WINDOW)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        parts = (pool.map(produce, wanted[at : at + WINDOW], hashes[at : at + WINDOW]) for at in windows)
        yield from track((square for part in parts for square in part), "reading slices", total=len(wanted))


# --- squares <-> disk ---------------------------------------------------------------------------------------


def _find_or_write(
    folder: Path, wanted: Sequence[Wanted], hashes: Sequence[bytes], decode: Decode, size: int
) -> Tensor:
    file = folder / f"{hashlib.sha256(b''.join(hashes)).hexdigest()}.squares"
    squares = _open(file, hashes, size)
    if squares is not None:
        return squares
    folder.mkdir(parents=True, exist_ok=True)
    with _locking(folder):
        squares = _open(file, hashes, size)  # another process may have written it meanwhile
        if squares is None:
            _forget(folder)
            _write(file, hashes, _produce(wanted, hashes, decode, _find_known(folder, set(hashes), size)))
            squares = _open(file, hashes, size)
    if squares is None:
        raise OSError(f"{file} does not read back as it was written")
    say(f"decoded slices: {len(wanted)}, {file.stat().st_size / 2**20:.1f} MiB in {folder.parent}")
    return squares


def _seal(content: bytes, square: bytes) -> bytes:
    return hashlib.sha256(content + square).digest()


def _write(file: Path, hashes: Sequence[bytes], squares: Iterator[bytes]) -> None:
    # by write(), not through the map: on a full disk that is an error, and this a SIGBUS
    with atomic_write(file) as partial, open(partial, "wb") as stream:
        entries = bytearray()
        for content, square in zip(hashes, squares, strict=True):
            stream.write(square)
            entries += content + _seal(content, square)
        stream.write(entries)
        stream.flush()
        os.fsync(stream.fileno())


def _open(file: Path, hashes: Sequence[bytes], size: int) -> Tensor | None:
    """The squares of `file`; None where it is missing, torn or of something else. 2 GB/s, the reading ahead too."""
    try:
        with open(file, "rb") as stream:
            if os.fstat(stream.fileno()).st_size != len(hashes) * (size * size + ENTRY):
                return None
            checked = track(hashes, "checking decoded slices")
            entries = [content + _seal(content, stream.read(size * size)) for content in checked]
            if stream.read() != b"".join(entries):
                return None
            mapped = _map(stream)
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):  # the cache may be somebody else's
        os.utime(file)
    flat = torch.frombuffer(mapped, dtype=torch.uint8, count=len(hashes) * size * size)
    return flat.reshape(-1, size, size)


def _map(stream: BinaryIO) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    # else Linux counts the whole file as memory: 60 GiB of squares were refused on a machine of 23
    flags = mmap.MAP_PRIVATE | (MAP_NORESERVE if sys.platform == "linux" else 0)
    return mmap.mmap(stream.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _find_known(folder: Path, wanted: set[bytes], size: int) -> dict[bytes, Callable[[], bytes | None]]:
    """How to get the squares among `wanted` that other files here hold: seeds and folds share most of theirs."""
    known: dict[bytes, Callable[[], bytes | None]] = {}
    for file in folder.glob("*.squares"):
        entries, count = b"", 0
        with contextlib.suppress(OSError), open(file, "rb") as stream:  # another process may forget it just now
            count = os.fstat(stream.fileno()).st_size // (size * size + ENTRY)
            stream.seek(count * size * size)
            entries = stream.read(count * ENTRY)
        for row in range(count):
            entry = entries[row * ENTRY : (row + 1) * ENTRY]
            if entry[:32] in wanted:
                known[entry[:32]] = functools.partial(_read_row, file, row * size * size, size, entry)
    return known


def _read_row(file: Path, start: int, size: int, entry: bytes) -> bytes | None:
    try:
        with open(file, "rb") as stream:
            stream.seek(start)
            square = stream.read(size * size)
    except OSError:
        return None
    return square if _seal(entry[:32], square) == entry[32:] else None


def _forget(folder: Path) -> None:
    """Remove what killed processes left here, and squares of any kind that nobody has used for long."""
    for partial in folder.glob("*.partial"):  # nobody is writing: we hold the lock
        partial.unlink(missing_ok=True)
    for file in folder.parent.glob("*/*.squares"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > FORGOTTEN_AFTER:
                file.unlink()


@contextlib.contextmanager
def _locking(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=2)
    except Timeout:
        say(f"waiting for another process that decodes slices into {folder}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
