"""Claims of io.sources: every file a row, lazily, in memory; no hostile file does more than be refused."""

import functools
import importlib.util
import io
import struct
import subprocess
import sys
import tempfile
import weakref
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from stroke_hub import UnreadableImage, load_files, load_slices
from stroke_hub.batch.worklist import find_entries
from tests.hostile import HU, RAMP, SCRIPT, VOLUME, Hostile, dicom, encode, list_hostile, make_valid, nifti, pack

PICTURE = encode(Image.fromarray(RAMP), "PNG")
HOSTILE = list_hostile()


def name_stream(name: str, content: bytes) -> io.BytesIO:
    stream = io.BytesIO(content)
    stream.name = name
    return stream


# --- hostile files ------------------------------------------------------------------------------------------


def test_there_are_many_and_they_are_small() -> None:
    assert len(HOSTILE) >= 100
    assert len({one.name for one in HOSTILE}) == len(HOSTILE)
    assert sum(len(one.content) for one in HOSTILE) < 20_000_000
    assert 0.1 < np.mean([one.slices > 0 for one in HOSTILE]) < 0.6


@pytest.mark.parametrize(
    "hostile", HOSTILE, ids=lambda one: "".join(c if c.isalnum() else "_" for c in one.name)[:40]
)
def test_hostile(hostile: Hostile, capfd: pytest.CaptureFixture[str]) -> None:
    files = list(load_files(name_stream(hostile.name, hostile.content)))
    assert sum(len(file.slices) for file in files) == hostile.slices
    assert sum(bool(file.error) for file in files) == hostile.errors
    for file in files:
        assert bool(file.slices) != bool(file.error)
        assert file.error == "" or (file.error.endswith(".") and ";" in file.error)
        for text in (file.name, file.error, *(one.source for one in file.slices)):
            assert text.isprintable()
            assert not set("<>'`[]\n\u202e") & set(text)
            assert "SENTINEL" not in text
            assert len(text) < 320
        assert all(one.pixels.dtype == np.uint8 and one.pixels.size for one in file.slices)
    if not hostile.content.startswith(b"PK"):
        try:
            assert len(load_slices(hostile.content)) == hostile.slices
        except UnreadableImage:
            assert hostile.slices == 0
    assert capfd.readouterr() == ("", "")


@functools.cache
def load_fuzzer() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("block", range(4))
def test_mutated_files_raise_and_warn_nothing(block: int) -> None:
    fuzzer = load_fuzzer()
    fixtures = fuzzer.read_fixtures()
    findings = {}
    for seed in range(block * 150, (block + 1) * 150):
        if finding := fuzzer.try_input(fuzzer.mutate(fixtures, seed)):
            findings[seed] = finding
    assert findings == {}


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    names = {"deflated_bomb.dcm", "rle_bomb.dcm", "jpeg_2000_bomb.dcm", "jpeg_bomb.dcm", "bomb.zip", "lying.zip"}
    for one in HOSTILE:
        if one.name in names:
            (tmp_path / one.name).write_bytes(one.content)
    assert len(list(tmp_path.iterdir())) == len(names)
    (tmp_path / "a_good.dcm").write_bytes(dicom(HU))
    code = (
        "import resource, sys; from stroke_hub import load_files\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "files = load_files(sorted(sys.argv[1:])); next(files); before = peak()\n"
        "print(sum(bool(file.error) for file in files), peak() - before)"
    )
    command = [sys.executable, "-c", code, *map(str, tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    errors, grown = map(int, done.stdout.split())
    assert errors == len(names)
    assert grown < 48  # MiB; the bombs hold 64 to 10,000


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temp").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temp"))
    monkeypatch.chdir(tmp_path / "here")
    climbing = pack({"../up.png": PICTURE, "down/deep.png": PICTURE, "v.nii": nifti(VOLUME), "d.dcm": dicom(HU)})
    (tmp_path / "scan.zip").write_bytes(climbing)
    before = sorted(tmp_path.rglob("*"))
    assert sum(len(file.slices) for file in load_files(tmp_path / "scan.zip")) == 5
    assert sorted(tmp_path.rglob("*")) == before


# --- files, folders, archives -------------------------------------------------------------------------------


def lay_out(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / ".hidden").mkdir()
    for name, content in {
        "b.png": PICTURE,
        "a.txt": b"notes",
        "IM0001": dicom(HU),
        "sub/volume.nii.gz": nifti(VOLUME),
        "sub/broken.jpg": b"\xff\xd8\xff",
        ".hidden/c.png": PICTURE,
        ".c.png": PICTURE,
        "sub/pack.zip": pack({"x/y.png": PICTURE}),
    }.items():
        (folder / name).write_bytes(content)


def test_sources(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    lay_out(folder)
    names = ["IM0001", "b.png", "sub/broken.jpg", "sub/pack.zip/x/y.png", "sub/volume.nii.gz"]
    found = list(load_files(folder))
    assert sorted(file.name for file in found) == names
    assert {file.name: len(file.slices) for file in found if not file.error} == {
        "IM0001": 1, "b.png": 1, "sub/pack.zip/x/y.png": 1, "sub/volume.nii.gz": 3,
    }  # fmt: skip
    by_name = {file.name: file for file in found}
    assert by_name["sub/broken.jpg"].error.startswith("broken.jpg: ")
    assert by_name["sub/pack.zip/x/y.png"].path == folder / "sub" / "pack.zip"
    assert by_name["b.png"].slices[0].source == "b.png"
    assert by_name["IM0001"].slices[0].modality == "BT"
    several = list(
        load_files([folder / "b.png", str(folder / "a.txt"), PICTURE, io.BytesIO(PICTURE), folder / "no.png"])
    )
    assert [bool(file.error) for file in several] == [False, True, False, False, True]
    assert [file.name for file in several] == ["b.png", "a.txt", "image", "image", "no.png"]
    assert "does not exist" in several[-1].error
    (empty,) = load_files(folder / ".hidden" / "none")
    assert "does not exist" in empty.error
    (tmp_path / "void").mkdir()
    (void,) = load_files(tmp_path / "void")
    assert void.error == "void: holds no image; pass a folder that holds slices."


def test_options_go_to_every_file() -> None:
    archive = pack({"a.png": PICTURE, "b.dcm": dicom(HU)})
    assert [file.slices[0].modality for file in load_files(archive)] == [None, "BT"]
    assert [file.slices[0].modality for file in load_files(archive, modality="MR")] == ["MR", "MR"]
    stroke = list(load_files(archive, window="stroke"))[1].slices[0].pixels
    np.testing.assert_array_equal(stroke, load_slices(dicom(HU), window="stroke")[0].pixels)
    assert all("allowed" in file.error for file in load_files(archive, max_pixels=9))
    assert [file.slices[0].modality for file in load_files(archive, modality="CT")] == ["BT", "BT"]
    with pytest.raises(ValueError, match="modality is 'PET'"):
        list(load_files(archive, modality="PET"))  # type: ignore[arg-type]


def make_series(series: str, positions: list[float]) -> list[bytes]:
    return [
        dicom(
            HU,
            {
                (0x20, 0x0E): ("UI", series.encode()),
                (0x20, 0x32): ("DS", f"0\\0\\{position}".encode()),
                (0x20, 0x37): ("DS", b"1\\0\\0\\0\\1\\0"),
            },
        )
        for position in positions
    ]


def test_series_come_in_the_order_of_their_position(tmp_path: Path) -> None:
    first, second = make_series("1.2.1", [30, 10, -20.5]), make_series("1.2.2", [5, 1])
    names = ["a.dcm", "c.dcm", "e.dcm", "b.dcm", "d.dcm"]
    contents = dict(zip(names, first + second, strict=True)) | {"bb.png": PICTURE}
    expected = ["e.dcm", "c.dcm", "a.dcm", "d.dcm", "b.dcm", "bb.png"]
    assert [file.name for file in load_files(name_stream("s.zip", pack(contents)))] == [
        f"s.zip/{n}" for n in expected
    ]
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert [file.name for file in load_files(tmp_path)] == expected


def test_files_are_loaded_one_at_a_time(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(PICTURE)
    alive: list[weakref.ref[np.ndarray]] = []
    for source in (tmp_path, name_stream("s.zip", pack({f"{n}.png": PICTURE for n in range(4)}))):
        alive.clear()
        files = load_files(source)
        for _ in range(4):
            pixels = next(files).slices[0].pixels
            alive.append(weakref.ref(pixels))
            del pixels
            assert [one for one in alive if one() is not None] == []


def test_truncated_archives_and_members() -> None:
    for name, content in make_valid().items():
        if name != "scan.zip":
            (file,) = load_files(pack({name: content[: len(content) // 2]}))
            assert file.error.startswith(f"{name}: ")
            assert file.slices == []


def test_where_slices_to_predict_are_looked_for(tmp_path: Path) -> None:
    names = ["a.png", "b.DCM", "c.dicom", "d.nii", "e.nii.gz", "f.gz", "g.txt", "h.tar.gz", ".i.dcm"]
    for name in names:
        (tmp_path / name).touch()
    assert [Path(item.path).name for item in find_entries([tmp_path])] == names[:5]


def test_litter_of_scanners_and_systems_is_passed_over(tmp_path: Path) -> None:
    names = ["DICOMDIR", "DIRFILE", "sub/dicomdir", "Thumbs.db", "__MACOSX/x.png", "._b.png", "a.dcm", "sub/b.png"]
    contents = {name: dicom(HU) if name == "a.dcm" else PICTURE for name in names}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert [file.name for file in load_files(tmp_path)] == ["a.dcm", "sub/b.png"]
    assert [Path(entry.path).relative_to(tmp_path).as_posix() for entry in find_entries([tmp_path])] == [
        "a.dcm", "sub/b.png",
    ]  # fmt: skip
    for slash in ("/", "\\"):
        packed = pack(
            {name.replace("/", slash): content for name, content in contents.items()} | {f"d{slash}": b""}
        )
        assert [file.name for file in load_files(name_stream("s.zip", packed))] == [
            "s.zip/a.dcm",
            "s.zip/sub/b.png",
        ]
        assert [file.error for file in load_files(packed)] == ["", ""]


@pytest.fixture
def zip64(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An archive of 3 members whose last records are those of a zip64, as some tools always write them."""
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    packed = pack({f"{number}.png": PICTURE for number in range(3)})
    assert packed[-42:-38] == b"PK\6\7"
    return packed[:-14] + b"\xff" * 12 + packed[-2:]  # the numbers stand in the record of 64 bits alone


def test_a_zip64_of_few_members_is_read(zip64: bytes, tmp_path: Path) -> None:
    (tmp_path / "s.zip").write_bytes(zip64)
    for source in (zip64, tmp_path / "s.zip", zip64[:-2] + b"\3\0abc"):
        files = list(load_files(source))
        assert [file.error for file in files] == [""] * 3
        assert [len(file.slices) for file in files] == [1] * 3


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (32, 10**9, "has more than 2,000 members"),
        (40, 10**12, "has more than 2,000 members"),
        (0, 0, "is a damaged zip archive"),
        (56 + 8, 7, "is a damaged zip archive"),
    ],
)
def test_a_zip64_that_lies_is_refused_before_it_is_read(zip64: bytes, place: int, value: int, words: str) -> None:
    content = bytearray(zip64)
    struct.pack_into("<Q", content, len(content) - 22 - 20 - 56 + place, value)
    (file,) = load_files(bytes(content))
    assert words in file.error


def test_names_are_harmless() -> None:
    long = "x" * 300 + ".png"
    names = [
        file.name for file in load_files(name_stream("a.zip", pack({f"{SCRIPT}.png": PICTURE, long: PICTURE})))
    ]
    assert len(names) == 2
    assert all(len(name) <= 200 and name.isprintable() and "<" not in name for name in names)
