"""Files, folders and zip archives -> slices, one file after another; nothing is written, a bad file is a row."""

import io
import os
import re
import stat
import struct
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TypeAlias, cast

from stroke_hub.errors import UnreadableImage, printable
from stroke_hub.files import name_bytes
from stroke_hub.io.dicom import Place, is_dicom, read_place
from stroke_hub.io.images import IMAGE_SUFFIXES
from stroke_hub.io.limits import MAX_PIXELS
from stroke_hub.io.nifti import HEADER_SIZE
from stroke_hub.io.slices import Slice, is_image, load_slices, name_source, read_whole
from stroke_hub.io.windowing import Modality, Window

__all__ = [
    "LoadedFile",
    "SourceFile",
    "holds_many",
    "is_archive",
    "is_litter",
    "list_files",
    "load_files",
    "may_hold_slices",
    "walk_folders",
]

FileSource: TypeAlias = str | Path | bytes | BinaryIO

MAX_MEMBERS = 2_000
MAX_DIRECTORY = 1 << 21  # bytes of a zip's table of contents: 2,000 names of 1,000 characters
MAX_MEMBER_BYTES = 1 << 29
MAX_TOTAL_BYTES = 1 << 32  # of all members unpacked; one at a time is in memory
MAX_RATIO = 200  # unpacked to packed, beyond FREE_BYTES: CT packs to 1/2 to 1/10, an empty slice to 1/1000
FREE_BYTES = 1 << 26
START_SIZE = 1 << 16  # bytes of a file that tell where in a series it belongs
END_SIZE, LOCATOR_SIZE, END64_SIZE = 22, 20, 56  # bytes of a zip's last record; of two before it in a zip64
ENCRYPTED, STRONGLY_ENCRYPTED = 1, 1 << 6  # flags
LITTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "dicomdir", "dirfile"})
NAME_LIMIT = 200  # characters of a name
SCAN_SUFFIXES = frozenset({".dcm", ".dicom", ".nii", ".nii.gz"})  # where slices to predict are looked for


@dataclass(frozen=True, eq=False)
class LoadedFile:
    """One file of what was given.

    name : fit to print, at most 200 characters: the file's name, its path from the folder that was given, or
        the archive's name and the path within, with "/" between.
    slices : what it holds; empty where there is an error.
    error : one sentence, "" where fine.
    path : the file on disk (of a zip's member the zip), or None where bytes or a stream were given.
    """

    name: str
    slices: list[Slice]
    error: str
    path: Path | None = None


class SourceFile(NamedTuple):
    """A file that `load_slices` can be given, or why it cannot.

    name : as `LoadedFile` has it. get : what `load_slices` takes. open : a stream of it from its start.
    size : bytes. path : as `LoadedFile` has it. error : one sentence without the name, "" where fine.
    """

    name: str
    get: Callable[[], Path | BinaryIO]
    open: Callable[[], BinaryIO]
    size: int = 0
    path: Path | None = None
    error: str = ""


def load_files(
    sources: FileSource | Iterable[FileSource],
    *,
    modality: Modality | Literal["CT"] | None = None,
    window: Window | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[LoadedFile]:
    """Decode files, all images below folders and all images in zip archives, lazily and one at a time.

    Parameters
    ----------
    sources : files, folders or zip archives (told by content), as paths, bytes or binary streams; or one.
    modality, window, max_pixels : as `load_slices` takes them.

    Yields
    ------
    A `LoadedFile` for every file named, and for every file in a folder or archive that is named or recognised
    as an image; other files there are passed over. In a folder and in an archive files come sorted by name,
    but DICOM files of one series by their position, bottom to top. No more than one file's pixels are held.

    Notes
    -----
    Members of an archive are read in memory and never extracted. Refused with a sentence: an archive that is
    damaged, has more than 2,000 members or unpacks to more than 4 GiB, or to 64 MiB and 200 times its size; a
    member that lies outside (``..``, absolute), is a link, an archive itself, encrypted, or packed otherwise
    than by deflate.

    Raises
    ------
    ValueError : when `modality` or `window` is none that `load_slices` knows.
    """
    if isinstance(sources, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(sources, "read"):
        sources = [sources]  # type: ignore[list-item]
    for source in sources:
        for files in list_files(source):
            for file in _order(files):
                yield _load(file, modality=modality, window=window, max_pixels=max_pixels)


def is_archive(start: bytes) -> bool:
    """Whether a file that starts with these (at least 4) bytes is a zip archive."""
    return start[:4] in (b"PK\3\4", b"PK\5\6")


def holds_many(source: Any) -> bool:
    """Tell whether a source of `load_files` is a folder or a zip archive, which hold several files or may."""
    if isinstance(source, str | os.PathLike):
        return Path(source).is_dir() or is_archive(_read_start(Path(source)))
    if isinstance(source, bytes | bytearray | memoryview):
        return is_archive(bytes(source[:4]))
    if not source.seekable():
        return False
    source.seek(0)
    return is_archive(source.read(4))  # load_files rewinds it


def may_hold_slices(name: str) -> bool:
    """Whether a file of this name is read where slices to predict are looked for."""
    return name.lower().endswith(tuple(IMAGE_SUFFIXES | SCAN_SUFFIXES))


def _load(file: SourceFile, **options: Any) -> LoadedFile:
    error = file.error
    if not error:
        try:
            return LoadedFile(file.name, load_slices(file.get(), **options), "", file.path)
        except UnreadableImage as refusal:
            return LoadedFile(file.name, [], str(refusal), file.path)
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
            error = "cannot be unpacked or read, it is damaged; copy or pack it again."
    return LoadedFile(file.name, [], f"{printable(_cut_folders(file.name))}: {error}", file.path)


def _cut_folders(name: str) -> str:
    return name.rsplit("/", 1)[-1]


# --- sources and folders ------------------------------------------------------------------------------------


def list_files(source: Any) -> Iterator[list[SourceFile]]:
    """List the files of one source of `load_files`: those of each folder and of each archive together, by name."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.is_dir():
            yield from _list_folder(path)
        elif is_archive(_read_start(path)):
            yield _list_archive_file(path, path.name)
        else:
            yield [_name_path(path, printable(path.name, limit=NAME_LIMIT) or "image")]
        return
    try:
        content = bytes(source if isinstance(source, bytes | bytearray | memoryview) else read_whole(source))
    except (UnreadableImage, AttributeError, OSError, ValueError):
        yield [
            SourceFile(name_source(source), lambda: source, _nothing)
        ]  # load_slices has the words for what it is
        return
    name = name_source(source)
    if is_archive(content[:4]):
        yield _list_archive(io.BytesIO(content), name, None)
    else:
        named = partial(name_bytes, content, name)
        yield [SourceFile(name, named, named, len(content))]


def walk_folders(
    folder: str | Path, *, onerror: Callable[[OSError], object] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Walk a folder: each folder below it with its files, sorted by name, without hidden ones and litter.

    Links are followed, each folder once. `onerror` is called with the error of an unreadable folder, which is
    passed over otherwise.
    """
    visited: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=onerror, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in visited else sorted(name for name in folders if not is_litter(name))
        if real not in visited:
            yield place, sorted(name for name in names if not is_litter(name))
        visited.add(real)


def is_litter(name: str) -> bool:
    """Tell whether a file or folder of this name is hidden, or what operating systems and scanners leave."""
    return (name.startswith(".") and not name.startswith("..")) or name.lower() in LITTER


def _list_folder(folder: Path) -> Iterator[list[SourceFile]]:
    found = False
    for place, names in walk_folders(folder):
        files = []
        for name in names:
            path = Path(place, name)
            within = path.relative_to(folder).as_posix()
            start = _read_start(path)
            if is_archive(start) and name.lower().endswith(".zip"):
                found = True
                yield _list_archive_file(path, within)
            elif may_hold_slices(name) or is_image(start):
                files.append(_name_path(path, printable(within, limit=NAME_LIMIT)))
        found = found or bool(files)
        yield files
    if not found:
        yield [_refuse(printable(folder.name), folder, "holds no image; pass a folder that holds slices.")]


def _name_path(path: Path, name: str) -> SourceFile:
    size = path.stat().st_size if path.is_file() else 0
    return SourceFile(name, lambda: path, lambda: path.open("rb"), size, path)


def _refuse(name: str, path: Path | None, error: str) -> SourceFile:
    return SourceFile(name, _nothing, _nothing, path=path, error=error)


def _read_start(path: Path) -> bytes:
    """The first bytes of a regular file; none of anything else, on which reading might never end."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as stream:
            return stream.read(HEADER_SIZE)
    except (OSError, ValueError):
        return b""


def _find_place(file: SourceFile) -> Place | None:
    try:
        with file.open() as stream:
            start = stream.read(HEADER_SIZE)
            return read_place(io.BytesIO(start + stream.read(START_SIZE))) if is_dicom(start) else None
    except Exception:  # what is damaged has no place; loading it says so
        return None


def _order(files: list[SourceFile]) -> list[SourceFile]:
    """As they come, but the files of a series together, where its first stands, and by position."""
    if len(files) < 2:
        return files
    first: dict[str, int] = {}
    keys = []
    for index, file in enumerate(files):
        place = None if file.error else _find_place(file)
        series = place.series if place else ""
        begin = first.setdefault(series, index) if place else index
        keys.append((begin, place.position if place else 0.0, index))
    return [files[index] for *_, index in sorted(keys)]


def _nothing() -> Any:
    raise AssertionError("there is nothing to read")


# --- zip archives -------------------------------------------------------------------------------------------


def _list_archive_file(path: Path, name: str) -> list[SourceFile]:
    return _list_archive(path.open("rb"), name, path)


def _list_archive(stream: BinaryIO, name: str, path: Path | None) -> list[SourceFile]:
    """The images in a zip; the stream stays open as long as one of them may be read."""
    shown = printable(name, limit=NAME_LIMIT) or "archive"
    try:
        size = _check_directory(stream)
        archive = zipfile.ZipFile(stream)
        weakref.finalize(archive, stream.close)
        members = archive.infolist()
        _check_members(members, size)
    except UnreadableImage as refusal:
        stream.close()
        return [_refuse(shown, path, str(refusal))]
    except Exception:  # on damaged bytes zipfile may raise anything
        stream.close()
        return [_refuse(shown, path, "is a damaged zip archive; pack or copy it again.")]
    files = []
    for member in sorted(members, key=lambda one: one.filename):
        within = member.filename.replace("\\", "/")  # .NET writes what the format forbids
        if within.endswith("/") or any(is_litter(part) for part in within.split("/")):
            continue
        error, start = _examine(archive, member)
        if error or may_hold_slices(within) or is_image(start):
            row = printable(f"{name}/{within}", limit=NAME_LIMIT)
            get, opened = partial(_read_member, archive, member), partial(_open_member, archive, member)
            files.append(SourceFile(row, get, opened, member.file_size, path, error))
    return files or [_refuse(shown, path, "holds no image; pack slices into it.")]


def _check_directory(stream: BinaryIO) -> int:
    """Refuse a table of contents that would fill the memory before anybody could count it; the archive's size."""
    size = stream.seek(0, io.SEEK_END)
    start = stream.seek(max(0, size - END_SIZE - 0xFFFF - LOCATOR_SIZE - END64_SIZE))
    end = stream.read()
    at = len(end) - END_SIZE  # where zipfile looks, in its order
    if not (end[at : at + 4] == b"PK\5\6" and end[-2:] == b"\0\0"):
        at = end.rfind(b"PK\5\6")
    if at < 0 or at + END_SIZE > len(end):
        raise UnreadableImage("is a damaged zip archive; pack or copy it again.")
    count, directory = struct.unpack("<HL", end[at + 10 : at + 16])
    if end[max(0, at - LOCATOR_SIZE) : at][:4] == b"PK\6\7":
        count, directory = _read_end64(end[: at - LOCATOR_SIZE], end[at - LOCATOR_SIZE : at], start)
    if count > MAX_MEMBERS or directory > MAX_DIRECTORY:
        raise UnreadableImage(f"has more than {MAX_MEMBERS:,} members; split it into smaller archives.")
    return size


def _read_end64(before: bytes, locator: bytes, start: int) -> tuple[int, int]:
    """Read the number of members, and the bytes of the table of contents, of a zip64; `before` begins at `start`.

    Its record stands right before its locator, which names the place: zipfile reads either of them, so both agree.
    """
    record = before[-END64_SIZE:]
    (place,) = struct.unpack("<Q", locator[8:16])
    if record[:4] != b"PK\6\6" or place != start + len(before) - END64_SIZE:
        raise UnreadableImage("is a damaged zip archive; pack or copy it again.")
    count, directory = struct.unpack("<QQ", record[32:48])
    return count, directory


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    if len(members) > MAX_MEMBERS:
        raise UnreadableImage(f"has more than {MAX_MEMBERS:,} members; split it into smaller archives.")
    total = sum(member.file_size for member in members)
    if total > MAX_TOTAL_BYTES or total > max(FREE_BYTES, MAX_RATIO * size):
        raise UnreadableImage(
            f"unpacks to {total / 2**20:,.0f} MiB, which is too much for an archive of its size; pack it again."
        )


def _examine(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[str, bytes]:
    """What is wrong with a member before it is read, or "", and its first bytes."""
    path = member.filename
    if path.startswith(("/", "\\")) or ".." in re.split(r"[\\/]", path) or re.match("[A-Za-z]:", path):
        return "lies outside its archive; pack it again without .. or absolute paths.", b""
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link, not a file; pack the file itself.", b""
    if member.flag_bits & (ENCRYPTED | STRONGLY_ENCRYPTED):
        return "is encrypted; unpack the archive with its password first.", b""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in a way that is not read; pack it as an ordinary zip.", b""
    if member.file_size > MAX_MEMBER_BYTES:
        return f"unpacks to more than {MAX_MEMBER_BYTES >> 20:,} MiB; pass it by itself.", b""
    try:
        with archive.open(member) as stream:
            start = stream.read(HEADER_SIZE)
            if is_archive(start):
                return "is an archive inside an archive; unpack it and pass it by itself.", b""
            return "", start
    except Exception:  # on damaged bytes zipfile may raise anything
        return "cannot be unpacked, it is damaged; pack it again.", b""


def _open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> BinaryIO:
    return cast(BinaryIO, archive.open(member))


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> BinaryIO:
    with archive.open(member) as stream:
        content = stream.read(member.file_size + 1)  # a number, or zipfile inflates all there is
    return name_bytes(content, _cut_folders(member.filename.replace("\\", "/")))
