"""load_scan(): what people have in hand becomes one scan, its slices decoded when they are asked for."""

import io
import math
import os
import re
import tempfile
import threading
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, BinaryIO, Literal, NamedTuple, TypeAlias, cast, overload

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import UnreadableImage, pluralise, printable
from stroke_hub.io.dicom import MODALITIES, is_dicom
from stroke_hub.io.geometry import View
from stroke_hub.io.images import find_decoder, measure_picture
from stroke_hub.io.limits import MAX_PIXELS, SCAN_LIMITS, check_pages
from stroke_hub.io.nifti import GZIP, HEADER_SIZE, VolumeHeader, is_volume, read_volume_header
from stroke_hub.io.quiet import silence
from stroke_hub.io.slices import OpenedSlices, Slice, check_modality, name_source, open_slices
from stroke_hub.io.sources import FileSource, SourceFile, list_files
from stroke_hub.io.windowing import Modality, Window, find_modality
from stroke_hub.progress import track
from stroke_hub.scan.grid import arrange, choose_b_value
from stroke_hub.scan.headers import Header, read_header
from stroke_hub.scan.scan import Axes, Origin, Scan
from stroke_hub.scan.series import Series, choose_series, describe_dicom, describe_volume

__all__ = ["FoundScan", "load_scan", "load_scans"]

PageKey: TypeAlias = tuple[int, int]  # the number of a file in what was given, and the page in it

PICTURES = (
    "The pictures do not say where they lie; they are in the order of their names, and positions are slice numbers."
)
PAGES = "The file does not say where its pages lie; they are in its own order, and positions are slice numbers."
NO_ORIENTATION = "The volume does not say how it lies in the patient; left and right may be exchanged."
IN_MEMORY = 1 << 24  # bytes of a file of an archive that is unpacked in memory, not on disk
FREE_BYTES = 1 << 30  # that any packed volume may unpack to
MAX_RATIO = 200  # unpacked to packed, beyond that: MR packs to 1/2 to 1/20
SHOWN = 3  # names of files in a sentence
NOT_SHOWN = "holds no slice, but another DICOM object, as a report or a plan; leave it out."


class FoundScan(NamedTuple):
    """One scan of several, or a file that holds none.

    name : the series' description or the file's name, fit to print. scan : None where it cannot be read.
    uid : of the DICOM series, "" elsewhere: `load_scan` finds the scan again by it. error : one sentence, "" where
    fine.
    """

    name: str
    scan: Scan | None
    uid: str = ""
    error: str = ""


def load_scan(
    source: FileSource | Iterable[FileSource],
    *,
    series: int | str | None = None,
    modality: Modality | Literal["CT"] | None = None,
    window: Window | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Scan:
    """Load one scan from a folder, a zip archive, a volume or a list of files, to judge it as a whole.

    Parameters
    ----------
    source : a folder of DICOM files or pictures, a zip archive of these, a NIfTI volume (.nii, .nii.gz), a DICOM
        file of one or many frames, a TIFF of several pages, or a list of files; each as a path, bytes or a stream.
        One slice is a scan of one.
    series : which of several series: its number, its description or a part of it, or its UID; of a NIfTI file
        of several volumes the number of one, from 1. Where it is None, the one that suits is taken: axial, not
        derived, no localizer, without contrast, with a soft kernel, of 2.5 to 6 mm, with most slices.
    modality, window, max_pixels : as `load_slices` takes them; the scan may have 2^30 voxels.

    Returns
    -------
    The slices are those of `load_slices`, never resampled to another grid, from foot to head by their position.
    They are decoded when they are asked for: headers are read first, pixels one slice at a time. Of several slices
    at one position (time, b-values, echoes) one set is taken: of diffusion the b-value nearest to 1000 s/mm². What
    was chosen, left out, or is missing or uneven stands in `remarks`. A packed volume lies unpacked in a temporary
    file without a name while the scan is used.

    Raises
    ------
    UnreadableImage : nothing in it is a slice, or no series is the one that was asked for; slices that cannot be
        decoded say so when they are asked for.
    ValueError : when `modality` or `window` is none that `load_slices` knows.
    """
    known = None if modality is None else find_modality(str(modality))
    name, files = _list_sources(source)
    remarks: list[str] = []
    all_ = _find_series(files, name, remarks)
    number = None
    if len(all_) == 1 and all_[0].volume and all_[0].volume.volumes > 1:
        number, series = series, None
    try:
        taken, why = choose_series(all_, series, known)
        volume = _choose_volume(files[taken.files[0]], taken, number) if taken.volume else (0, ())
    except UnreadableImage as refusal:
        raise UnreadableImage(f"{name}: {refusal}") from None
    remarks = [*why, *taken.remarks, *remarks, *volume[1]]
    options = {"modality": modality, "window": window, "limits": SCAN_LIMITS._replace(pixels=max_pixels)}
    return _open_series(files, taken, volume[0], name, remarks, options)


def load_scans(
    source: FileSource | Iterable[FileSource],
    *,
    modality: Modality | Literal["CT"] | None = None,
    window: Window | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[FoundScan]:
    """Load every scan of what was given, one after another, to list them; a single picture is a scan of one.

    Parameters
    ----------
    source, modality, window, max_pixels : as `load_scan` takes them. A list may mix scans, and archives of some.

    Yields
    ------
    The scans in the order of their first files, and where each file stands that holds none, why.

    Raises
    ------
    ValueError : as `load_scan`.
    """
    check_modality(modality)
    _, files = _list_sources(source)
    found = _Found()
    _look(found, files)
    options = {"modality": modality, "window": window, "limits": SCAN_LIMITS._replace(pixels=max_pixels)}
    listed: list[tuple[int, Series | str]] = [(min(one.files), one) for one in found.list_series(apart=True)]
    listed += [(number, error) for number, error in found.errors.items()]
    for number, one in sorted(listed, key=lambda each: each[0]):
        file = files[number]
        if isinstance(one, str):
            yield FoundScan(file.name, None, error=one)
            continue
        name = one.name if one.kind == "DICOM" and one.name and one.count > 1 else file.name
        try:
            volume = _choose_volume(file, one, None) if one.volume else (0, ())
            scan = _open_series(files, one, volume[0], name, [*one.remarks, *volume[1]], options)
        except UnreadableImage as refusal:
            yield FoundScan(name, None, one.uid, str(refusal))
        else:
            yield FoundScan(name, scan, one.uid)


def _open_series(
    files: list[SourceFile], taken: Series, volume: int, name: str, remarks: list[str], options: dict[str, Any]
) -> Scan:
    """Open the slices of a series."""
    known = find_modality(str(options["modality"])) if options["modality"] else None
    slices = _LazySlices(files, _list_pages(taken), volume=volume, **options)
    scan = _describe_volume(taken.volume) if taken.volume else _describe_stack(taken)
    origins = [
        Origin(files[file].name, uid, page + 1, files[file].path, files[file])
        for (file, page), uid in zip(slices.pages, _list_uids(taken), strict=True)
    ]
    slices.open(0)  # a volume is unpacked now, and what cannot be read at all says so
    return replace(
        scan,
        slices=slices,
        modality=known or MODALITIES.get(taken.modality),
        source=name,
        files=tuple((origin.file, origin.uid) for origin in origins),
        remarks=tuple(dict.fromkeys((*remarks, *scan.remarks))),
        origins=tuple(origins),
    )


# --- what there is ------------------------------------------------------------------------------------------


def _list_sources(source: Any) -> tuple[str, list[SourceFile]]:
    """What messages call the source, and all its files."""
    is_one = isinstance(source, str | os.PathLike | bytes | bytearray | memoryview | np.ndarray)
    is_one = is_one or hasattr(source, "read") or not isinstance(source, Iterable)
    sources = [source] if is_one else list(source)
    if not sources:
        raise UnreadableImage("an empty list is no scan; pass a folder, a file or a list of files.")
    name = name_source(sources[0])
    if len(sources) > 1:
        name = pluralise(len(sources), "file")
    files = [file for one in sources for group in list_files(one) for file in group]
    return name, files


def _find_series(files: list[SourceFile], name: str, remarks: list[str]) -> list[Series]:
    """All series in the files, by their headers."""
    found = _Found()
    _look(found, files)
    errors = [error for number, error in found.errors.items() if number not in found.others]
    all_ = found.list_series()
    if not all_:
        if len(files) == 1 and errors:
            raise UnreadableImage(errors[0])
        reason = f" ({errors[0].rstrip('.')})" if errors else ""
        raise UnreadableImage(
            f"{name}: holds no slice that can be read{reason}; pass DICOM, NIfTI or pictures of a scan."
        )
    if errors:
        count = pluralise(len(errors), "file")
        remarks.append(f"Left out because of what is wrong with them: {count}. {' '.join(errors[:SHOWN])}")
    return all_


def _look(found: "_Found", files: list[SourceFile]) -> None:
    """Look at all files; what is wrong with one is kept."""
    for number, file in enumerate(track(files, "reading headers")):
        try:
            found.look(number, file)
        except UnreadableImage as refusal:
            shown = printable(_cut_folders(file.name))
            words = str(refusal) if str(refusal).startswith(shown) else f"{shown}: {refusal}"
            found.errors[number] = words


class _Found:
    """What the files of a source are, by their headers."""

    def __init__(self) -> None:
        self.headers: dict[tuple[int, str, int | None], list[Header]] = defaultdict(list)
        self.volumes: list[tuple[int, str, VolumeHeader]] = []
        self.pictures: list[tuple[int, str, tuple[int, int, int]]] = []
        self.errors: dict[int, str] = {}  # by file
        self.others: set[int] = set()  # files that are no slices and not wrong

    def look(self, number: int, file: SourceFile) -> None:
        """Look at one file."""
        if file.error:
            raise UnreadableImage(file.error)
        start = _read_start(file)
        if is_dicom(start):
            header = read_header(file, number)
            if header is None:
                self.others.add(number)
                raise UnreadableImage(NOT_SHOWN)
            self.headers[header.patient, header.series, header.number].append(header)
        elif find_decoder(start):
            with file.open() as stream, silence():
                try:
                    measured = measure_picture(stream)
                except Exception:
                    raise UnreadableImage("is a damaged picture; export or copy it again.") from None
            check_pages(measured[2], 0, SCAN_LIMITS)
            self.pictures.append((number, file.name, measured))
        elif is_volume(start):
            with file.open() as stream, silence():
                volume = read_volume_header(stream, SCAN_LIMITS)
            unpacked = math.prod(volume.shape) * volume.volumes * volume.dtype.itemsize
            if start[:2] == GZIP and unpacked > max(FREE_BYTES, MAX_RATIO * file.size):
                raise UnreadableImage(
                    f"unpacks to {unpacked >> 20:,} MiB, which is too much for a file of its size; unpack it first."
                )
            self.volumes.append((number, file.name, volume))
        else:
            with open_slices(
                cast(Any, file.get()), name=_cut_folders(file.name)
            ) as opened:  # an array, or no image
                self.pictures.append((number, file.name, (*opened[0].pixels.shape, 1)))

    def list_series(self, *, apart: bool = False) -> list[Series]:
        """Put together what belongs together.

        Parameters
        ----------
        apart : whether each single picture is a series of its own, and not one with those of its folder.
        """
        all_: list[Series] = []
        for headers in self.headers.values():
            frames = [frame for header in headers for frame in header.frames]
            grid = arrange(frames, headers[0].thickness)
            of_most = next(header for header in headers if grid.frames[0] in header.frames)
            all_.append(describe_dicom(tuple(frame.file for frame in grid.frames), of_most, grid))
        all_ += [describe_volume(number, _cut_folders(name), header) for number, name, header in self.volumes]
        folders: dict[str, list[tuple[int, str, tuple[int, int]]]] = defaultdict(list)
        for number, name, (rows, columns, pages) in self.pictures:
            if pages > 1:
                all_.append(Series("pages", (number,), _cut_folders(name), pages, size=(columns, rows)))
            else:
                folders[name if apart else name.rpartition("/")[0]].append((number, name, (columns, rows)))
        return [*all_, *(_describe_pictures(folder, pictures) for folder, pictures in folders.items())]


def _describe_pictures(folder: str, pictures: list[tuple[int, str, tuple[int, int]]]) -> Series:
    """Describe the pictures of one folder, of which those of the most frequent size are slices of one scan."""
    size, _ = Counter(size for *_, size in pictures).most_common(1)[0]
    alike = sorted((one for one in pictures if one[2] == size), key=lambda one: _sort_by_numbers(one[1]))
    left = len(pictures) - len(alike)
    was = "picture of another size was" if left == 1 else "pictures of other sizes were"
    return Series(
        "pictures",
        tuple(number for number, *_ in alike),
        _cut_folders(folder) or "pictures",
        len(alike),
        size=size,
        remarks=(f"{left} {was} left out.",) if left else (),
    )


def _cut_folders(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _sort_by_numbers(name: str) -> list[tuple[int, int, str]]:
    """Sort slice2 before slice10."""
    parts = re.findall(r"\d+|\D+", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _read_start(file: SourceFile) -> bytes:
    try:
        with file.open() as stream:
            return stream.read(HEADER_SIZE)
    except Exception:
        return b""  # opening it for its slices says what is wrong


# --- one series ---------------------------------------------------------------------------------------------


def _list_pages(series: Series) -> list[PageKey]:
    """The file and the page of each slice, from foot to head."""
    if series.grid:
        return [(frame.file, frame.page) for frame in series.grid.frames]
    if series.kind == "pictures":
        return [(file, 0) for file in series.files]
    return [(series.files[0], page) for page in range(series.count)]


def _list_uids(series: Series) -> list[str]:
    return [frame.uid for frame in series.grid.frames] if series.grid else [""] * series.count


def _describe_stack(series: Series) -> Scan:
    """A scan of DICOM frames, pages or pictures, which lie in it as they are stored."""
    if series.grid is None:
        positions = np.arange(series.count, dtype=np.float64)
        remarks = () if series.count == 1 else (PICTURES if series.kind == "pictures" else PAGES,)
        return Scan((), positions, (*series.size, series.count), remarks=remarks)
    grid = series.grid
    shape = grid.frames[0].columns, grid.frames[0].rows, len(grid.frames)
    axes = _turn_back(grid.view)
    return Scan((), grid.positions, shape, grid.affine, remarks=grid.remarks, axes=axes)


def _turn_back(view: View | None) -> Axes:
    """Which axis of the stored pixels the rightward and the downward direction of a picture follow."""
    if view is None:
        return ((0, 1), (1, 1), (2, 1))
    right, down = -1 if view.is_flipped_right else 1, -1 if view.is_flipped_down else 1
    return ((1, right), (0, down), (2, 1)) if view.is_transposed else ((0, right), (1, down), (2, 1))


def _describe_volume(header: VolumeHeader) -> Scan:
    """A scan of a volume: its slices follow the axis that is nearest to superior."""
    by_goal = {goal: (axis, direction) for axis, (goal, direction) in enumerate(header.turned)}
    axis, direction = by_goal[2]
    others = [header.affine[:3, one] for one in range(3) if one != axis]
    normal: NDArray[np.float64] = np.cross(others[0], others[1])
    normal = normal / np.linalg.norm(normal)
    normal = normal * np.sign(normal @ header.affine[:3, axis]) * direction
    count = header.shape[axis]
    numbers = np.arange(count)[::direction]
    positions = (header.affine[:3, 3] + numbers[:, None] * header.affine[:3, axis]) @ normal
    (right, to_right), (front, to_front) = by_goal[0], by_goal[1]
    axes = ((right, -to_right), (front, -to_front), (axis, direction))  # a picture leads to the left and backwards
    remarks = () if header.has_place else (NO_ORIENTATION,)
    return Scan((), positions, header.shape, header.affine, remarks=remarks, axes=axes)


def _choose_volume(file: SourceFile, series: Series, wanted: int | str | None) -> tuple[int, tuple[str, ...]]:
    """Which volume of a file of four axes is taken, from 0, and why."""
    count = cast(VolumeHeader, series.volume).volumes
    if count == 1:
        return 0, ()
    if wanted is not None:
        if not str(wanted).isdecimal() or not 1 <= int(wanted) <= count:
            raise UnreadableImage(
                f"has no volume {printable(str(wanted))}; pass a number from 1 to {count:,} as series."
            )
        return int(wanted) - 1, (f"Of {count:,} volumes number {int(wanted):,} was taken, as asked for.",)
    advice = "Give the number of another as series."
    values = _read_b_values(file)
    if len(values) == count:
        best = choose_b_value(values)
        number = values.index(best)
        return number, (
            f"Of {count:,} volumes number {number + 1:,} was taken, with the b-value {best:,.0f} s/mm². {advice}",
        )
    return count - 1, (
        f"Of {count:,} volumes the last was taken: nothing says what they are, and of diffusion it is the weighted "
        f"one. {advice}",
    )


def _read_b_values(file: SourceFile) -> list[float]:
    """The b-values in the .bval file beside a volume, as BIDS has it; none where there is no such file."""
    if file.path is None or file.path.name != _cut_folders(file.name):
        return []
    beside = file.path.with_name(re.sub(r"\.nii(\.gz)?$", "", file.path.name, flags=re.I) + ".bval")
    try:
        return (
            [float(word) for word in beside.read_text("ascii").split()] if beside.stat().st_size < 1 << 20 else []
        )
    except (OSError, ValueError):
        return []


# --- slices -------------------------------------------------------------------------------------------------


class _LazySlices(Sequence[Slice]):
    """The slices of a scan, each decoded when it is asked for; the file of the last one stays open."""

    def __init__(self, files: list[SourceFile], pages: Sequence[PageKey], *, volume: int, **options: Any) -> None:
        numbers = sorted({file for file, _ in pages})
        self.pages = pages
        self._files = {number: files[number] for number in numbers}
        self._volume, self._options = volume, options
        self._opened: tuple[int, OpenedSlices] | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.pages)

    @overload
    def __getitem__(self, index: int) -> Slice: ...
    @overload
    def __getitem__(self, index: slice) -> list[Slice]: ...
    def __getitem__(self, index: int | slice) -> Slice | list[Slice]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]
        with self._lock:
            return self.open(number)[self.pages[number][1]]

    def open(self, number: int) -> OpenedSlices:
        """Open the file of a slice, if it is not the one that is open."""
        file = self.pages[number][0]
        if self._opened is None or self._opened[0] != file:
            self._opened = None
            self._opened = file, _open(self._files[file], self._volume, self._options)
        return self._opened[1]


def _open(file: SourceFile, volume: int, options: dict[str, Any]) -> OpenedSlices:
    """Open a file in place; what is packed in an archive is unpacked in memory or, if it is large, on disk."""
    name = printable(_cut_folders(file.name)) or "image"
    start = _read_start(file)
    with ExitStack() as stack:
        if is_volume(start) and not is_dicom(start) and not find_decoder(start):
            options = {**options, "volume": volume, "scratch": stack.enter_context(_make_scratch())}
        try:
            given = _unpack(file, start, stack)
        except Exception as error:  # on damaged bytes zipfile may raise anything
            raise UnreadableImage(f"{name}: cannot be unpacked or read; copy or pack it again.") from error
        opened = open_slices(given, name=name, **options)
        weakref.finalize(opened, stack.pop_all().close)
    return opened


def _unpack(file: SourceFile, start: bytes, stack: ExitStack) -> Any:
    """What `open_slices` takes of a file; a large one of an archive is unpacked on disk."""
    if file.path is None or file.size <= IN_MEMORY:
        return file.get()
    stream = stack.enter_context(file.open())
    if isinstance(stream, io.BufferedReader):
        return file.path  # is no archive
    if start[:2] == GZIP:
        return stream  # is unpacked once more anyway
    unpacked = stack.enter_context(_make_scratch())
    rest = file.size + 1  # a number, or zipfile inflates all there is
    while rest > 0 and (block := stream.read(min(rest, IN_MEMORY))):
        rest -= unpacked.write(block)
    unpacked.seek(0)
    return unpacked


def _make_scratch() -> BinaryIO:
    """A file without a name: nobody else can open it, and it is gone when it is closed, however that happens."""
    return cast(BinaryIO, tempfile.TemporaryFile())
