"""A square is what the decoder makes of the file that is there now, whatever happened to the cache."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from stroke_hub import DatasetError, UnreadableImage, load_slices
from stroke_hub.data import cache
from stroke_hub.data.cache import read_squares
from stroke_hub.files import find_cache
from stroke_hub.io.rendering import Rendering
from stroke_hub.io.sight import Framing, Sight
from stroke_hub.io.slices import fit_square
from stroke_hub.io.windowing import Modality, Window

SIZE = 32


class Seen(NamedTuple):
    """What a model sees of a slice: here the whole picture."""

    image_size: int = SIZE
    resize: Literal["pad", "stretch"] = "pad"
    rendering: Rendering = "canonical"
    window: Window = "brain"
    framing: Framing = "whole"
    modalities: tuple[Modality, ...] = ()


def read(files: list[Path], modality: Modality | None = None, **changed: Any) -> torch.Tensor:
    return read_squares(Seen(**changed), files, [modality] * len(files))


BUILD = """
import sys, time
from pathlib import Path
from stroke_hub.data import cache
from tests.data.test_cache import read

slow, decode = float(sys.argv[1]), cache._decode
def decode_slowly(*args, **options):
    print("decoding", flush=True)
    time.sleep(slow)
    return decode(*args, **options)
cache._decode = decode_slowly
files = sorted(Path(sys.argv[2]).glob("*.png"))
squares = read(files)
print("whole", int(squares.sum()))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setenv("STROKE_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Pictures of noise of several shapes, more than one window."""
    rng = np.random.default_rng(0)
    (tmp_path / "slices").mkdir()
    paths = [tmp_path / "slices" / f"{i:03d}.png" for i in range(70)]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (20 + i % 30, 45), dtype=np.uint8)).save(path)
    return paths


def decode_plainly(files: list[Path], **options: Any) -> torch.Tensor:
    """What the package did before it had a cache."""
    side = options.pop("image_size", SIZE)
    return torch.from_numpy(np.stack([fit_square(load_slices(f)[0].pixels, side, **options) for f in files]))


def count_decodes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    decoded: list[Path] = []
    real = cache._decode

    def count(sight: Sight, one: cache.Wanted) -> tuple[bytes, bytes]:
        decoded.append(one.file)
        return real(sight, one)

    monkeypatch.setattr(cache, "_decode", count)
    return decoded


def find_arrays(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.squares"))


@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_squares_are_the_decoders(folder: Path, files: list[Path], resize: str) -> None:
    expected = decode_plainly(files, resize=resize)
    for _ in range(2):
        squares = read(files, resize=resize)
        assert squares.dtype == torch.uint8
        assert torch.equal(squares, expected)


def test_settings_do_not_meet(folder: Path, files: list[Path]) -> None:
    for changed in ({"image_size": 48}, {"resize": "stretch"}, {}):
        assert torch.equal(read(files, **changed), decode_plainly(files, **changed))
    assert len(find_arrays(folder)) == 3


@pytest.mark.parametrize(
    "changed",
    [
        {"rendering": "legacy"},
        {"window": "stroke"},
        {"framing": "head"},
        {"modalities": ("MR",)},
        {"modality": "MR"},
    ],
)
def test_what_changes_a_square_is_another_square(
    folder: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    read(files)
    decoded = count_decodes(monkeypatch)
    assert len(read(files, **changed)) == len(files)
    assert sorted(decoded) == files


def test_each_slice_is_read_as_its_modality(folder: Path, files: list[Path]) -> None:
    """MR is stretched and a CT picture is not; squares of both stand in one file."""
    dark = np.zeros((64, 64), np.uint8)
    dark[8:56, 8:56] = np.arange(48) + 40
    for number, file in enumerate(files[:2]):
        Image.fromarray(dark + np.uint8(number)).save(file)
    for _ in range(2):
        ct, mr = read_squares(Seen(), files[:2], ["BT", "MR"])
        assert ct.max() <= 88
        assert mr.max() > 200
    mr, ct = read_squares(Seen(), files[:2], ["MR", "BT"])  # the same files, as something else
    assert ct.max() <= 88
    assert mr.max() > 200


def test_nothing_is_decoded_twice(folder: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = count_decodes(monkeypatch)
    read(files[:60])
    assert sorted(decoded) == files[:60]
    read(files[:60])
    mixed = files[::-1] + files[:3]
    assert torch.equal(read(mixed), decode_plainly(mixed))
    assert sorted(decoded) == files


def test_a_changed_file_is_decoded_again(folder: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read(files)
    before = files[3].stat()
    Image.fromarray(255 - load_slices(files[3])[0].pixels).save(files[3], compress_level=0)
    os.utime(files[3], ns=(before.st_atime_ns, before.st_mtime_ns))  # not even the date tells
    decoded = count_decodes(monkeypatch)
    assert torch.equal(read(files), decode_plainly(files))
    assert decoded == [files[3]]


def test_another_decoder_shares_nothing(folder: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read(files)
    monkeypatch.setattr(cache, "_identify_decoder", lambda: "another")
    decoded = count_decodes(monkeypatch)
    read(files)
    assert sorted(decoded) == files


@pytest.mark.parametrize(
    ("room", "name"),
    sorted((room.name, path.name) for room in cache.DECODERS for path in room.glob("*.py")),
)
def test_a_change_of_any_decoding_module_is_a_miss(
    folder: Path, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: str, name: str
) -> None:
    copies = tuple(shutil.copytree(sources, tmp_path / sources.name) for sources in cache.DECODERS)
    monkeypatch.setattr(cache, "DECODERS", copies)
    decoded = count_decodes(monkeypatch)
    for expected in (files[:3], []):
        read(files[:3])
        assert sorted(decoded) == expected
        decoded.clear()
    with (tmp_path / room / name).open("a", encoding="utf-8") as source:
        source.write("# another rescaling\n")
    read(files[:3])
    assert sorted(decoded) == files[:3]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content + b"\0",
        lambda content: b"",
        lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: b"\0" * len(content),
        lambda content: content[SIZE * SIZE :] + content[: SIZE * SIZE],
    ],
    ids=["half", "longer", "empty", "a bit of a square", "a bit of an entry", "zeros", "shifted"],
)
@pytest.mark.parametrize("request_again", [slice(None), slice(None, None, -1)], ids=["itself", "as a neighbour"])
def test_a_torn_or_foreign_file_is_never_believed(
    damage: Any, request_again: slice, folder: Path, files: list[Path]
) -> None:
    read(files)
    (array,) = find_arrays(folder)
    array.write_bytes(damage(array.read_bytes()))
    again = files[request_again]
    assert torch.equal(read(again), decode_plainly(again))
    assert torch.equal(read(again), decode_plainly(again))


def test_what_is_written_into_the_squares_stays_there(folder: Path, files: list[Path]) -> None:
    squares = read(files)
    squares.fill_(7)
    assert torch.equal(read(files), decode_plainly(files))
    assert (squares == 7).all()


def start(slow: float, files: list[Path]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(slow), str(files[0].parent)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_of_two_processes_one_decodes(folder: Path, files: list[Path]) -> None:
    runs = [start(0.02, files) for _ in range(2)]
    outputs = [run.communicate(timeout=60)[0] for run in runs]
    assert [text.splitlines()[-1] for text in outputs] == [f"whole {int(decode_plainly(files).sum())}"] * 2
    # in the text, not by lines: threads that print at once may share a line
    assert sum(text.count("decoding") for text in outputs) == len(files)
    assert len(find_arrays(folder)) == 1


def test_a_killed_process_leaves_nothing_wrong(folder: Path, files: list[Path]) -> None:
    run = start(0.05, files)
    assert run.stdout is not None
    for _ in range(40):
        run.stdout.readline()
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert list(folder.glob("*/*.partial"))
    assert not find_arrays(folder)
    assert torch.equal(read(files), decode_plainly(files))
    assert not list(folder.glob("*/*.partial"))
    assert len(find_arrays(folder)) == 1


def test_a_stopped_build_leaves_nothing(folder: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object, **options: object) -> tuple[bytes, bytes]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cache, "_decode", stop)
        with pytest.raises(KeyboardInterrupt):
            read(files)
    assert [path.name for path in folder.glob("*/*")] in ([], ["lock"])
    assert torch.equal(read(files), decode_plainly(files))


def test_a_folder_that_cannot_be_made_leaves_the_squares_in_memory(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("STROKE_HUB_CACHE", str(tmp_path / "file" / "cache"))
    assert torch.equal(read(files), decode_plainly(files))
    assert re.search(r"^note: decoded slices stay in memory.*Not a directory", capsys.readouterr().err)


def test_a_full_disk_leaves_the_squares_in_memory(
    folder: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    # a real refusal by the kernel, in a process of its own: no file may pass 40 kB
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))"
    )
    command = [sys.executable, "-c", code + BUILD, "0", str(files[0].parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"whole {int(decode_plainly(files).sum())}"
    assert "note: decoded slices stay in memory" in done.stderr
    assert os.strerror(errno.EFBIG) in done.stderr
    assert not find_arrays(folder)
    assert not list(folder.glob("*/*.partial"))


def test_a_foreign_cache_that_only_reads_is_used(
    folder: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read(files)

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    decoded = count_decodes(monkeypatch)
    assert torch.equal(read(files), decode_plainly(files))
    assert decoded == []


def test_a_slice_that_cannot_be_read_is_named_as_the_decoder_names_it(
    folder: Path, files: list[Path], tmp_path: Path
) -> None:
    files[2].write_bytes(b"not a picture")
    files[5].unlink()
    os.mkfifo(tmp_path / "pipe.png")
    for broken in (files[2], files[5], tmp_path, tmp_path / "pipe.png"):
        with pytest.raises(UnreadableImage) as plain:
            load_slices(broken)
        with pytest.raises(DatasetError, match=re.escape(f"{broken.parent}/{plain.value}")):
            read([*files[:2], broken])
    assert not find_arrays(folder)


def test_a_file_that_changes_between_hash_and_decode_is_refused(
    folder: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cache._decode

    def overwrite(sight: Sight, one: cache.Wanted) -> tuple[bytes, bytes]:
        Image.new("L", (40, 40), 9).save(one.file)
        return real(sight, one)

    monkeypatch.setattr(cache, "_decode", overwrite)
    with pytest.raises(DatasetError, match=r"000\.png: changed while it was read"):
        read(files[:1])


def test_what_nobody_used_for_a_month_goes(folder: Path, files: list[Path]) -> None:
    read(files[:5])
    read(files[:6])
    old = time.time() - 31 * 24 * 3600
    for array in find_arrays(folder):
        os.utime(array, (old, old))
    read(files[:5])  # used: its date is of today again
    read(files[:7])
    assert sorted(array.stat().st_size for array in find_arrays(folder)) == [
        5 * (SIZE**2 + 64),
        7 * (SIZE**2 + 64),
    ]


def test_no_slices_are_no_squares(folder: Path) -> None:
    assert read([]).shape == (0, SIZE, SIZE)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STROKE_HUB_CACHE", "~/mine")
    assert find_cache() == tmp_path / "mine"
    monkeypatch.setenv("STROKE_HUB_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert find_cache() == tmp_path / "xdg" / "stroke_hub" / "squares"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert find_cache() == tmp_path / ".cache" / "stroke_hub" / "squares"


def test_memory_holds_no_squares(folder: Path, tmp_path: Path) -> None:
    """Reading 192 MiB of squares, written or found, adds an eighth of that at most to the anonymous memory."""
    rng = np.random.default_rng(0)
    (tmp_path / "slices").mkdir()
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(tmp_path / "slices" / f"{i}.png")
    code = """
import sys
from pathlib import Path
from tests.data.test_cache import read

def read_anonymous():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024

files = sorted(Path(sys.argv[1]).glob("*.png"))
read(files, image_size=512)[0].sum()
before = read_anonymous()
for _ in range(2):
    squares = read(files * 96, image_size=512)
    for square in squares:
        square.float().sum()
    print(squares.nbytes / 2**20, read_anonymous() - before)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "slices")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        size, growth = map(float, line.split())
        assert size == 192
        assert growth < 24  # the window of squares that wait to be written is 16
