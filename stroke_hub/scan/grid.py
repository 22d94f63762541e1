"""Frames of one series -> slices from foot to head: one at each position, on a grid where there is one."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import pluralise
from stroke_hub.io.dicom import DERIVED_WORDS
from stroke_hub.io.geometry import View, find_view
from stroke_hub.scan.headers import Frame

__all__ = ["Grid", "arrange", "choose_b_value"]

EQUAL = 0.02  # mm: slices that lie closer are at one position; positions are written with three decimals or more
PARALLEL = 0.999  # cosine between the directions of slices of one stack
MOST = 0.8  # share of the positions that a set of slices must have to be a set of its own
MAX_SHEAR = 0.5  # degrees between the normal and the way from slice to slice: more is a tilted gantry
UNEVEN = 0.1  # of the distance of two slices: how far a slice may lie from its place in a regular grid
GAP = 1.5  # distances of slices: a longer one is a gap
FEW_GAPS = 3  # more are no missing slices but a scan with two distances, as of skull base and brain
USUAL_B = 1000.0  # s/mm²: stroke protocols have it; below 500 the diffusion hardly shows, above the noise grows
LEAST_B = 500.0
OTHER_PARTS = frozenset({"P", "R", "I", "PHASE", "PHASE MAP", "REAL", "IMAGINARY"})
TO_RAS = np.diag([-1.0, -1.0, 1.0])

NO_POSITIONS = (
    "Nothing says where the slices lie; they are in the order of their {order}, and their positions are slice "
    "numbers."
)


class Grid(NamedTuple):
    """The slices of a scan in their order.

    positions : mm along the normal, (N,); slice numbers where nobody says. affine : as `Scan` has it.
    view : how each slice was turned. remarks : what was chosen and what is odd.
    """

    frames: list[Frame]
    positions: NDArray[np.float64]
    affine: NDArray[np.float64] | None
    view: View | None
    remarks: tuple[str, ...]


class _Attribute(NamedTuple):
    """Something that tells slices at one position apart, and which of its values is taken."""

    read: Callable[[Frame], Any]
    choose: Callable[[list[Any]], Any]
    say: Callable[[list[Any], Any], str]


def arrange(frames: Sequence[Frame], thickness: float | None) -> Grid:
    """Sort the frames of a series along the normal of their planes, and take one at each position.

    Parameters
    ----------
    frames : at least one. thickness : of the slices in mm; it is the length of a voxel where there is one slice.
    """
    remarks: list[str] = []
    chosen = _take_stack(_drop_copies(frames, remarks), remarks)
    normal = _find_normal(chosen[0])
    is_placed = normal is not None and bool(chosen[0].corner)
    chosen = _take_set(chosen, _find_places(chosen, normal if is_placed else None), remarks)
    view = find_view(chosen[0].directions)
    if view is not None and (view.plane != "axial" or view.is_oblique):
        kind = "oblique" if view.is_oblique else view.plane
        remarks.append(f"The series is {kind}; models are trained on axial slices.")
    if normal is None or not is_placed:
        remarks.append(NO_POSITIONS.format(order=_find_order(chosen)))
        return Grid(chosen, np.arange(len(chosen), dtype=np.float64), None, view, tuple(remarks))
    corners = np.array([frame.corner for frame in chosen])
    positions = corners @ normal
    step = _find_step(corners, positions, normal, thickness, remarks)
    affine = None if step is None else _find_affine(chosen[0], step)
    if step is not None and affine is None:
        remarks.append("The files do not say how large a pixel is.")
    return Grid(chosen, positions, affine, view, tuple(remarks))


def choose_b_value(values: list[float]) -> float:
    """Choose the b-value nearest to 1000 s/mm² of those in which diffusion shows, else the highest."""
    shown = [value for value in values if value >= LEAST_B]
    return min(shown, key=lambda value: abs(value - USUAL_B)) if shown else max(values)


# --- which frames -------------------------------------------------------------------------------------------


def _drop_copies(frames: Sequence[Frame], remarks: list[str]) -> list[Frame]:
    kept: dict[tuple[Any, ...], Frame] = {}
    for frame in frames:
        # Not by the UID alone: some programs give all slices one when they make a scan anonymous.
        key = (frame.uid, frame.page, frame.corner, frame.instance) if frame.uid else (frame.file, frame.page)
        kept.setdefault(key, frame)
    if dropped := len(frames) - len(kept):
        remarks.append(f"{pluralise(dropped, 'slice')} came twice, as a copy of the same instance; one was used.")
    return list(kept.values())


def _take_stack(frames: list[Frame], remarks: list[str]) -> list[Frame]:
    """The largest number of frames that have one size and one direction."""
    stacks: list[list[Frame]] = []
    for frame in frames:
        stack = next((stack for stack in stacks if _is_alike(stack[0], frame)), None)
        if stack is None:
            stacks.append([frame])
        else:
            stack.append(frame)
    taken = max(stacks, key=len)
    if left := len(frames) - len(taken):
        remarks.append(
            f"{pluralise(left, 'slice')} of the series {'was' if left == 1 else 'were'} left out: of another size "
            "or direction, or without a position."
        )
    return taken


def _is_alike(one: Frame, other: Frame) -> bool:
    if (one.rows, one.columns, bool(one.corner)) != (other.rows, other.columns, bool(other.corner)):
        return False
    if len(one.directions) != len(other.directions) or (one.spacing is None) != (other.spacing is None):
        return False
    if one.spacing and other.spacing and not np.allclose(one.spacing, other.spacing, rtol=1e-3):
        return False
    if not one.directions:
        return True
    a, b = np.reshape(one.directions, (2, 3)), np.reshape(other.directions, (2, 3))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return bool(((a * b).sum(axis=1) >= PARALLEL * lengths).all())


def _find_normal(frame: Frame) -> NDArray[np.float64] | None:
    """The normal of a slice in DICOM's coordinates, of length 1, that leads rather to the head, front and right."""
    if find_view(frame.directions) is None:
        return None
    normal = np.cross(frame.directions[:3], frame.directions[3:])
    normal = normal / np.linalg.norm(normal)
    towards = TO_RAS @ normal
    return np.asarray(normal * np.sign(towards[np.abs(towards).argmax()]), np.float64)


def _find_order(frames: list[Frame]) -> str:
    """What frames without a position are sorted by."""
    if any(frame.page for frame in frames):
        return "frames"
    numbers = {frame.instance for frame in frames}
    return "instance numbers" if None not in numbers and len(numbers) == len(frames) else "file names"


def _find_places(frames: list[Frame], normal: NDArray[np.float64] | None) -> list[float]:
    """The position of each frame in mm, or what sorts frames without one."""
    if normal is not None:
        return [float(normal @ np.array(frame.corner)) for frame in frames]
    order = _find_order(frames)
    if order == "frames":
        return [float(frame.page) for frame in frames]
    return [float((frame.instance or 0) if order == "instance numbers" else frame.file) for frame in frames]


def _take_set(frames: list[Frame], places: list[float], remarks: list[str]) -> list[Frame]:
    """One frame at each place, in their order."""
    order = np.argsort(places, kind="stable")
    numbers: dict[int, int] = {}
    number, last = -1, -math.inf
    for index in order:
        if places[index] - last > EQUAL:
            number, last = number + 1, places[index]
        numbers[int(index)] = number
    by_place = {id(frames[index]): number for index, number in numbers.items()}
    for attribute in ATTRIBUTES:
        if len({by_place[id(frame)] for frame in frames}) < len(frames):
            frames = _take_value(frames, by_place, attribute, remarks)
    at: dict[int, list[Frame]] = defaultdict(list)
    for frame in frames:
        at[by_place[id(frame)]].append(frame)
    doubled = sum(len(found) > 1 for found in at.values())
    is_repeated = doubled < len(at) / 2
    if doubled and is_repeated:
        remarks.append(f"{pluralise(doubled, 'position')} had more than one slice; the last of them was taken.")
    elif doubled:
        most = max(len(found) for found in at.values())
        remarks.append(
            f"The series holds {most} slices at each position, and no header tells them apart; the first was taken."
        )
    return [
        sorted(at[place], key=lambda frame: (frame.instance or 0, frame.file, frame.page))[-1 if is_repeated else 0]
        for place in sorted(at)
    ]


def _take_value(
    frames: list[Frame], by_place: dict[int, int], attribute: _Attribute, remarks: list[str]
) -> list[Frame]:
    """The frames of one value of an attribute, if its values make sets of about all positions."""
    by_value: dict[Any, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_value[attribute.read(frame)].append(frame)
    covered = {value: len({by_place[id(frame)] for frame in found}) for value, found in by_value.items()}
    all_places = len({by_place[id(frame)] for frame in frames})
    whole = [value for value, count in covered.items() if value is not None and count >= MOST * all_places]
    if len(by_value) < 2 or not whole:
        return frames
    value = attribute.choose(whole)
    remarks.append(attribute.say([value for value in by_value if value is not None], value))
    return by_value[value]


def _is_map(frame: Frame) -> bool:
    """Whether a frame is a map or a phase, not what shows tissue; a trace image of diffusion shows it."""
    maps = (DERIVED_WORDS - {"DERIVED", "TRACEW"}) | OTHER_PARTS
    return bool(frame.words & maps)


def _list(values: list[float]) -> str:
    words = [f"{value:,.4g}" for value in sorted(values)[:5]]
    return ", ".join(words) + (" and others" if len(values) > 5 else "")


ATTRIBUTES = (
    _Attribute(_is_map, min, lambda all_, one: "The series also holds maps or phases; they were left out."),
    _Attribute(
        lambda frame: frame.b_value,
        choose_b_value,
        lambda all_, one: (
            f"The series holds the b-values {_list(all_)} s/mm²; the slices of {one:,.0f} were taken."
        ),
    ),
    _Attribute(
        lambda frame: frame.direction == "ISOTROPIC" or "TRACEW" in frame.words,
        max,
        lambda all_, one: (
            "The series holds single directions of diffusion; the slices of all directions were taken."
        ),
    ),
    _Attribute(
        lambda frame: frame.echo,
        max,
        lambda all_, one: f"The series holds the echo times {_list(all_)} ms; the longest was taken.",
    ),
    _Attribute(
        lambda frame: frame.time,
        min,
        lambda all_, one: f"The series holds {len(all_)} points in time; the first was taken.",
    ),
    _Attribute(
        lambda frame: frame.acquisition,
        min,
        lambda all_, one: f"The series holds {len(all_)} acquisitions; the first was taken.",
    ),
)
"""In this order. At the first point in time no contrast agent has arrived; the longest echo is weighted by T2."""


# --- where they lie -----------------------------------------------------------------------------------------


def _find_step(
    corners: NDArray[np.float64],
    positions: NDArray[np.float64],
    normal: NDArray[np.float64],
    thickness: float | None,
    remarks: list[str],
) -> NDArray[np.float64] | None:
    """The way from slice to slice in mm, in DICOM's coordinates; None where the slices are no regular grid."""
    if len(corners) == 1:
        if thickness is None or not 0 < thickness < math.inf:
            remarks.append("The file does not say how thick its only slice is.")
            return None
        return normal * thickness
    steps = np.diff(positions)
    usual = float(np.median(steps))
    gaps = np.flatnonzero(steps > GAP * usual)
    step = (corners[-1] - corners[0]) / (len(corners) - 1)
    shear = math.degrees(math.acos(min(1.0, float(step @ normal) / float(np.linalg.norm(step)))))
    is_even = bool(
        np.abs(positions - positions[0] - np.arange(len(positions)) * (step @ normal)).max() <= UNEVEN * usual
    )
    if 0 < len(gaps) <= FEW_GAPS:
        for index in gaps:
            missing = max(1, round(float(steps[index]) / usual) - 1)
            remarks.append(
                f"{pluralise(missing, 'slice')} {'seems' if missing == 1 else 'seem'} to be missing between "
                f"{positions[index]:.1f} and {positions[index + 1]:.1f} mm."
            )
    elif not is_even:
        remarks.append(f"The slices lie {steps.min():.1f} to {steps.max():.1f} mm apart, not evenly.")
    if shear > MAX_SHEAR:
        remarks.append(
            f"The slices are sheared by {shear:.0f}°, as of a tilted gantry: each is shifted against the one below."
        )
        return None
    line = corners[0] + np.arange(len(corners))[:, None] * step
    off = np.linalg.norm(corners - line - ((corners - line) @ normal)[:, None] * normal, axis=1).max()
    if is_even and off > UNEVEN * usual:
        remarks.append("The slices are shifted against each other in their planes.")
        return None
    return step if is_even else None


def _find_affine(frame: Frame, step: NDArray[np.float64]) -> NDArray[np.float64] | None:
    if frame.spacing is None:
        return None
    along = np.reshape(frame.directions, (2, 3))
    affine = np.eye(4)
    affine[:3, 0] = TO_RAS @ along[0] * frame.spacing[1]  # from column to column
    affine[:3, 1] = TO_RAS @ along[1] * frame.spacing[0]
    affine[:3, 2] = TO_RAS @ step
    affine[:3, 3] = TO_RAS @ np.array(frame.corner)
    return affine
