"""What is to be predicted -> a work list in chunks: files, folders, zips, parquet tables, lists, standard input.

A chunk is the unit that outlives a kill. Which files are in which chunk follows from the work list alone, so that a
run that goes on cuts the rest as it was cut before. Nothing but names is read here until `open_entry` is asked.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from stroke_hub.errors import DatasetError, RunError, printable
from stroke_hub.extras import name_extras
from stroke_hub.files import atomic_write, name_bytes
from stroke_hub.io.sight import FramedSlice
from stroke_hub.io.slices import Slice, is_image
from stroke_hub.io.sources import LoadedFile, is_archive, may_hold_slices, walk_folders

if TYPE_CHECKING:
    import pyarrow.parquet as pq

__all__ = [
    "FILES_PER_CHUNK",
    "Chunk",
    "Entry",
    "FramedFile",
    "Job",
    "find_entries",
    "form_chunks",
    "open_entry",
    "read_chunks",
    "read_entries",
    "write_chunks",
    "write_entries",
]

FILES_PER_CHUNK = 128  # what a kill costs at most, besides those under way: some seconds of one core
COLUMNS = ("image", "bytes", "path")  # of a parquet file, the first that it has: bytes, paths or {bytes, path}
ROWS_AHEAD = 16  # of a parquet file, with their bytes
START_SIZE = 352  # bytes that tell what a file is


class Entry(NamedTuple):
    """One thing of a work list.

    path : a file on disk.
    rows : of a parquet file the row group and the number of its first row; None for all other files.
    """

    path: str
    rows: tuple[int, int] | None = None


class Chunk(NamedTuple):
    """Consecutive entries of a work list, predicted and stored together."""

    number: int
    entries: list[Entry]


class FramedFile(NamedTuple):
    """One file of the work list, as the model sees it: its name, its slices, and an error or ""."""

    name: str
    slices: list[FramedSlice]
    error: str


Job: TypeAlias = Callable[[], FramedFile]
Frame: TypeAlias = Callable[[Slice], FramedSlice]
Load: TypeAlias = Callable[[Any], Iterator[LoadedFile]]


def find_entries(sources: Iterable[str | Path], *, stdin: Iterable[str] | None = None) -> Iterator[Entry]:
    """The files of what was named, in order, lazily; a missing one stays, to become a row with its error.

    Parameters
    ----------
    sources : files; folders, searched through in the order of their names; zip archives; parquet files with a
        column `image`, `bytes` or `path`; ``"@FILE"``, a text file with a path on every line; ``"-"``, the same
        from `stdin`. In folders files are taken that are named or begin as a slice, a zip or a parquet file.
    stdin : lines, standard input unless given.

    Raises
    ------
    RunError : a list cannot be read.
    MissingExtra : there are parquet files, and pyarrow is not installed.
    """
    for source in map(str, sources):
        if source == "-":
            yield from _find_listed(sys.stdin if stdin is None else stdin)
        elif source.startswith("@") and not os.path.lexists(source):
            try:
                with open(source[1:], encoding="utf-8", errors="surrogateescape") as lines:
                    yield from _find_listed(lines)
            except OSError as error:
                raise RunError(f"{source[1:]}: cannot be read as a list ({error.strerror}).") from None
        else:
            yield from _find_named(source)


def _find_listed(lines: Iterable[str]) -> Iterator[Entry]:
    for line in lines:
        name = line.rstrip("\r\n")
        if name:
            yield from _find_named(name)


def _find_named(source: str) -> Iterator[Entry]:
    if not os.path.isdir(source):
        yield from [Entry(source)] if may_hold_slices(source) else _find_tables(source, _read_start(source))
        return
    for place, names in walk_folders(source):
        for name in names:
            path = os.path.join(place, name)
            if may_hold_slices(name):
                yield Entry(path)
                continue
            start = _read_start(path)
            if (is_archive(start) and name.lower().endswith(".zip")) or start[:4] == b"PAR1" or is_image(start):
                yield from _find_tables(path, start)


def _read_start(path: str) -> bytes:
    """The first bytes of a regular file; none of anything else, on which reading might never end."""
    try:
        if not os.path.isfile(path):
            return b""
        with open(path, "rb") as stream:
            return stream.read(START_SIZE)
    except (OSError, ValueError):
        return b""


# --- parquet ------------------------------------------------------------------------------------------------


def _import_parquet(path: str) -> Any:
    with name_extras(f"{path}: reading parquet"):
        import pyarrow.parquet
    return pyarrow.parquet


def _find_tables(path: str, start: bytes) -> Iterator[Entry]:
    """A file as it is, or a parquet file as the paths that it lists or as its row groups."""
    if start[:4] != b"PAR1":
        yield Entry(path)
        return
    parquet = _import_parquet(path)
    import pyarrow as pa

    try:
        with parquet.ParquetFile(path) as table:
            column = _find_column(table)
            kind = table.schema_arrow.field(column).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                first = 0
                for group in range(table.num_row_groups):
                    yield Entry(path, (group, first))
                    first += table.metadata.row_group(group).num_rows
                return
            for batch in table.iter_batches(columns=[column]):
                for name in batch.column(0).to_pylist():
                    yield Entry(os.path.join(os.path.dirname(path), name or "(no path)"))
    except (pa.ArrowException, OSError, DatasetError):
        yield Entry(path, (0, 0))  # open_entry says what is wrong with it


def _find_column(table: "pq.ParquetFile") -> str:
    names = table.schema_arrow.names
    column = next((name for name in COLUMNS if name in names), None)
    if column is None:
        raise DatasetError(
            f"has no column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}; rename the one that holds slices."
        )
    return column


def _open_rows(entry: Entry, frame: Frame, load: Load) -> Iterator[Job]:
    """A job for every row of a row group."""
    import pyarrow as pa

    group, row = entry.rows or (0, 0)
    try:
        with _import_parquet(entry.path).ParquetFile(entry.path) as table:
            column = _find_column(table)
            for batch in table.iter_batches(ROWS_AHEAD, row_groups=[group], columns=[column]):
                for cell in batch.column(0).to_pylist():
                    yield partial(_load_cell, entry.path, row, cell, frame, load)
                    row += 1
    except (pa.ArrowException, OSError, DatasetError) as error:
        known = isinstance(error, DatasetError)
        reason = str(error) if known else "is a damaged parquet file; write or copy it again."
        yield partial(_refuse, entry.path, reason)


def _load_cell(path: str, row: int, cell: Any, frame: Frame, load: Load) -> FramedFile:
    content, name = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    shown = f"{path}/{row}" + (f"/{printable(str(name), limit=200)}" if name else "")
    if isinstance(content, bytes):
        stream = name_bytes(content, os.path.basename(str(name)) if name else f"row {row}")
        return _load(stream, shown, frame, load)
    if isinstance(name, str):
        return _load(os.path.join(os.path.dirname(path), name), shown, frame, load)
    return _refuse(shown, "holds neither bytes nor a path.")


def _refuse(name: str, reason: str) -> FramedFile:
    return FramedFile(name, [], f"{printable(os.path.basename(name))}: {reason}")


# --- entries -> slices ----------------------------------------------------------------------------------------


def open_entry(entry: Entry, frame: Frame, load: Load) -> Iterator[Job]:
    """Jobs that load an entry's files: one for most, many for archives and tables; any thread may do them.

    Parameters
    ----------
    frame : makes of a slice what the model sees, at once, so that no more than a job's own file is held in full.
    load : `load_files` with the modality and the window that were asked for.

    A job never raises, whatever the file. Members of a zip are loaded while this is iterated, one at a time; a
    parquet file is read 16 rows at a time.
    """
    if entry.rows is not None:
        yield from _open_rows(entry, frame, load)
    elif not may_hold_slices(entry.path) and is_archive(_read_start(entry.path)):
        folder = os.path.dirname(entry.path)
        for file in load(entry.path):
            yield partial(
                FramedFile, os.path.join(folder, file.name), [frame(one) for one in file.slices], file.error
            )
    else:
        yield partial(_load, entry.path, entry.path, frame, load)


def _load(source: Any, name: str, frame: Frame, load: Load) -> FramedFile:
    try:
        files = list(load(source))
        if len(files) == 1:
            return FramedFile(name, [frame(one) for one in files[0].slices], files[0].error)
    except Exception as error:  # whatever a decoder does to a thread, the run goes on
        return _refuse(name, f"cannot be read ({type(error).__name__}); export the slice again as an 8-bit PNG.")
    return _refuse(name, "is a folder or an archive where one image was expected; pass it by itself.")


# --- the list on disk ---------------------------------------------------------------------------------------


def form_chunks(entries: Iterable[Entry]) -> Iterator[Chunk]:
    """Plain files in chunks of `FILES_PER_CHUNK`; what holds many slices in a chunk by itself."""
    number, waiting = 0, list[Entry]()
    for entry in entries:
        holds_many = entry.rows is not None or entry.path.lower().endswith(".zip")
        if waiting and (holds_many or len(waiting) == FILES_PER_CHUNK):
            yield Chunk(number, waiting)
            number, waiting = number + 1, []
        waiting.append(entry)
        if holds_many:
            yield Chunk(number, waiting)
            number, waiting = number + 1, []
    if waiting:
        yield Chunk(number, waiting)


def write_entries(entries: list[Entry]) -> str:
    """Items as one line of JSON."""
    return json.dumps(entries)


def read_entries(line: str) -> list[Entry]:
    """The entries that `write_entries` wrote."""
    return [Entry(path, (rows[0], rows[1]) if rows else None) for path, rows in json.loads(line)]


def write_chunks(chunks: Iterable[Chunk], file: Path) -> tuple[int, str]:
    """Write a work list to disk, a line a chunk; the number of its entries, and a SHA-256.

    Hashed are the names and, of every file, the size and the time when it was last written: a run that goes on
    after a file was mended would keep what it said of the damaged one. Content is not read, which would take as
    long as the run itself.
    """
    count, digest = 0, hashlib.sha256()
    with atomic_write(file) as whole, open(whole, "w", encoding="ascii") as stream:
        for chunk in chunks:
            line = write_entries(chunk.entries) + "\n"
            stream.write(line)
            digest.update(line.encode() + repr([_read_stamp(entry.path) for entry in chunk.entries]).encode())
            count += len(chunk.entries)
    return count, digest.hexdigest()


def _read_stamp(path: str) -> tuple[int, int] | None:
    """Size and time of the last change, in ns; None of what is not there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def read_chunks(file: Path) -> Iterator[Chunk]:
    """The chunks that `write_chunks` wrote, in their order."""
    with open(file, encoding="ascii") as stream:
        yield from (Chunk(number, read_entries(line)) for number, line in enumerate(stream))
