"""Files that a public page must survive, built in code: what each is, and what is right to do with it."""

import gzip
import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

EXPLICIT, IMPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
RLE, JPEG, JPEG_2000 = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
SCRIPT = "<script>alert('x')</script>"
SIDE = 24
LONG_VRS = {"OB", "OW", "SQ", "UN", "UT"}

Tags = dict[tuple[int, int], tuple[str, bytes] | None]


class Hostile(NamedTuple):
    """A file to upload. `slices` that it holds, 0 where it is refused; `errors`: rows of `load_files` with one."""

    name: str
    content: bytes
    slices: int
    errors: int


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def element(tag: tuple[int, int], vr: str, value: bytes, *, length: int | None = None) -> bytes:
    """One element of explicit VR, little endian; `length` may lie."""
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    size = len(value) if length is None else length
    tail = struct.pack("<HL", 0, size) if vr in LONG_VRS else struct.pack("<H", size & 0xFFFF)
    return struct.pack("<HH", *tag) + vr.encode() + tail + value


def short(value: int) -> tuple[str, bytes]:
    return "US", struct.pack("<H", value)


def dicom(
    pixels: np.ndarray | bytes,
    tags: Tags | None = None,
    *,
    syntax: str | None = EXPLICIT,
    shape: tuple[int, int] | None = None,
    modality: str = "CT",
    preamble: bool = True,
) -> bytes:
    """A DICOM file of stored values, or of the bytes of its pixel element; `tags` adds, replaces, drops (None)."""
    array = pixels if isinstance(pixels, np.ndarray) else np.zeros(shape or (SIDE, SIDE), np.int16)
    rows, columns = (shape or array.shape)[:2]
    body = array.astype(array.dtype.newbyteorder("<")).tobytes() if pixels is array else pixels
    all_tags: Tags = {
        (0x0008, 0x0060): ("CS", modality.encode()),
        (0x0010, 0x0010): ("PN", b"SENTINEL^NAME"),
        (0x0028, 0x0002): short(1),
        (0x0028, 0x0004): ("CS", b"MONOCHROME2"),
        (0x0028, 0x0010): short(rows),
        (0x0028, 0x0011): short(columns),
        (0x0028, 0x0100): short(8 * array.itemsize),
        (0x0028, 0x0101): short(8 * array.itemsize),
        (0x0028, 0x0102): short(8 * array.itemsize - 1),
        (0x0028, 0x0103): short(int(array.dtype.kind == "i")),
        (0x0028, 0x1052): ("DS", b"-1024"),
        (0x0028, 0x1053): ("DS", b"1"),
        (0x7FE0, 0x0010): ("OW", body),
    } | (tags or {})
    encapsulated = syntax is not None and syntax not in (EXPLICIT, IMPLICIT, DEFLATED)
    data = b"".join(
        element(tag, *value, length=0xFFFFFFFF if encapsulated and tag[0] == 0x7FE0 else None)
        for tag, value in sorted(all_tags.items())
        if value is not None
    )
    if syntax == DEFLATED:
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        data = packer.compress(data) + packer.flush()
    meta = element((2, 0x10), "UI", syntax.encode()) if syntax else element((2, 2), "UI", b"1.2")
    return (bytes(128) + b"DICM" + meta if preamble else b"") + data


def encapsulate(*frames: bytes) -> bytes:
    items = b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(frame)) + frame for frame in (b"", *frames))
    return items + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def draw_smooth(bits: int, shape: tuple[int, int] = (61, 47)) -> np.ndarray:
    """Waves and noise over all values of so many bits, uint8 or uint16."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    waves = (np.sin(columns / 9) + np.cos(rows / 13) + 2) / 4 + np.random.default_rng(0).normal(0, 0.02, shape)
    return np.rint(np.clip(waves, 0, 1) * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)


def compress(values: np.ndarray, syntax: str) -> bytes:
    """A frame of one of the syntaxes that `stroke_hub.io.jpeg` decodes."""
    import imagecodecs

    number = int(syntax.rpartition(".")[2])
    if number in (80, 81):
        return imagecodecs.jpegls_encode(values, 2 * (number == 81))
    if number == 51:
        return imagecodecs.jpeg8_encode(values, 90, bitspersample=12)
    bits = 8 * values.itemsize
    return imagecodecs.jpeg8_encode(values, lossless=True, predictor=1 if number == 70 else 6, bitspersample=bits)


def make_compressed() -> dict[str, bytes]:
    """A good DICOM file of each syntax that `stroke_hub.io.jpeg` decodes, to mutate."""
    from stroke_hub.io.jpeg import SYNTAXES

    tags: Tags = {(0x28, 0x100): short(16), (0x28, 0x101): short(12), (0x28, 0x103): short(0)}
    values = draw_smooth(12)
    return {
        f"{syntax}.dcm": dicom(encapsulate(compress(values, syntax)), tags, syntax=syntax, shape=values.shape)
        for syntax in sorted(SYNTAXES)
    }


def nifti(voxels: np.ndarray, affine: np.ndarray | None = None, **fields: object) -> bytes:
    import nibabel

    image = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    content = bytearray(image.to_bytes())
    for at, value in fields.items():  # for example at_40="<8h", with the values
        kind, *values = value  # type: ignore[misc]
        struct.pack_into(kind, content, int(at.removeprefix("at_")), *values)
    return bytes(content)


def pack(members: dict[str, bytes] | list[tuple[str, bytes]], *, kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", kind) as archive:
        warnings.simplefilter("ignore")  # of names that stand twice
        for name, content in members.items() if isinstance(members, dict) else members:
            info = zipfile.ZipInfo(name)
            info.compress_type = kind
            archive.writestr(info, content)
    return buffer.getvalue()


def pack_link(target: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("scan.png")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, target)
    return buffer.getvalue()


def flag_encrypted(archive: bytes) -> bytes:
    content = bytearray(archive)
    content[6] |= 1
    content[content.rindex(b"PK\1\2") + 8] |= 1
    return bytes(content)


def _drop_name(archive: bytes) -> bytes:
    """A zip whose only member has a name of no characters."""
    local = archive.index(b"p.png")
    end = archive.rindex(b"PK\5\6")
    content = bytearray(archive.replace(b"p.png", b""))
    struct.pack_into("<H", content, local - 4, 0)
    central = content.rindex(b"PK\1\2")
    struct.pack_into("<H", content, central + 28, 0)
    struct.pack_into("<LL", content, end - 10 + 12, end - 10 - central, central)
    return bytes(content)


def zeros(megabytes: int, head: bytes = b"", *, wbits: int = 31) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, wbits)
    return (
        packer.compress(head) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()
    )


RAMP = (np.arange(SIDE * SIDE) % 256).astype(np.uint8).reshape(SIDE, SIDE)
NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)
HU = (np.arange(SIDE * SIDE) * 3).astype(np.int16).reshape(SIDE, SIDE)
VOLUME = (np.arange(6 * 7 * 3) * 11 - 900).astype(np.int16).reshape(6, 7, 3)


def make_valid() -> dict[str, bytes]:
    """One good file of each kind, to cut and to mutate."""
    grey = Image.fromarray(RAMP)
    return {
        "scan.png": encode(Image.fromarray(NOISE), "PNG"),  # does not pack: a cut is a cut through pixels
        "scan.jpg": encode(grey, "JPEG"),
        "scan.dcm": dicom(HU),
        "scan.nii": nifti(VOLUME),
        "scan.zip": pack({"a.png": encode(grey, "PNG"), "b.dcm": dicom(HU)}),
    }


def list_hostile() -> list[Hostile]:
    """All of them, the same bytes every time; some 100 files of under 20 MB together."""
    return [
        *_list_cuts(),
        *(Hostile(name, content, slices, int(not slices)) for name, content, slices in _list_pictures()),
        *(Hostile(name, content, slices, int(not slices)) for name, content, slices in _list_dicom()),
        *(Hostile(name, content, slices, int(not slices)) for name, content, slices in _list_volumes()),
        *_list_archives(),
    ]


def _list_cuts() -> Iterator[Hostile]:
    for name, content in make_valid().items():
        for tenth in range(1, 10):
            yield Hostile(f"cut{tenth}_{name}", content[: len(content) * tenth // 10], 0, 1)


def _list_pictures() -> Iterator[tuple[str, bytes, int]]:
    grey = Image.fromarray(RAMP)
    colour = Image.merge("RGB", [grey, grey.rotate(90), grey.rotate(180)])
    frames = [Image.new("RGB", (SIDE, SIDE), (level,) * 3) for level in (200, 10)]
    palette = colour.quantize(16)
    palette.info["transparency"] = bytes(range(0, 256, 16))
    chunk = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    huge = b"IHDR" + chunk
    huge = struct.pack(">I", 13) + huge + struct.pack(">I", zlib.crc32(huge))
    yield "empty.png", b"", 0
    yield "one_byte.dcm", b"\0", 0
    yield "text.png", b"These are notes, not a picture.\n" * 20, 0
    yield "page.png", f"<html><body>{SCRIPT}</body></html>".encode(), 0
    yield "one_pixel.png", encode(Image.new("L", (1, 1), 7), "PNG"), 1
    yield "huge_20000.png", b"\x89PNG\r\n\x1a\n" + huge + encode(grey, "PNG")[33:], 0
    yield "bomb.png", _swell(encode(grey, "PNG")), 1
    yield "animated.png", encode(frames[0], "PNG", save_all=True, append_images=frames[1:]), 1
    yield "animated.webp", encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]), 1
    yield "animated.gif", encode(frames[0], "GIF", save_all=True, append_images=frames[1:]), 0
    yield "sixteen_bits.png", encode(Image.fromarray(HU.astype(np.uint16)), "PNG"), 1
    yield "cmyk.jpg", encode(colour.convert("CMYK"), "JPEG"), 1
    yield "palette_alpha.png", encode(palette, "PNG"), 1
    yield f"{SCRIPT.replace('/', '_')}.png", encode(grey, "PNG"), 1
    yield "x" * 120 + ".png", encode(grey, "PNG"), 1
    yield "drawing.svg", f"<svg xmlns='http://www.w3.org/2000/svg'>{SCRIPT}</svg>".encode(), 0
    yield "pdf.dcm", b"%PDF-1.7\n" + bytes(200), 0


def _swell(png: bytes) -> bytes:
    """A PNG whose data inflate to 64 MiB more than its header announces."""
    body = zeros(64, b"".join(b"\0" + row.tobytes() for row in RAMP), wbits=15)
    at = png.index(b"IDAT")
    chunk = b"IDAT" + body
    end = png.index(b"IEND") - 4
    return png[: at - 4] + struct.pack(">I", len(body)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[end:]


def _list_dicom() -> Iterator[tuple[str, bytes, int]]:
    rescale: Tags = {(0x28, 0x1052): None, (0x28, 0x1053): None}
    centre, width = (0x28, 0x1050), (0x28, 0x1051)
    windows = {
        "zero": (b"40", b"0"),
        "nan": (b"nan", b"inf"),
        "text": (b"SENTINEL", SCRIPT.encode()),
        "many": (b"40\\" * 400 + b"40", b"80\\" * 3 + b"80"),
        "negative": (b"40", b"-80"),
        "empty": (b"", b""),
        "tiny": (b"40", b"1"),
        "huge": (b"1e308", b"1e-300"),
    }
    for name, (c, w) in windows.items():
        tags = rescale | {centre: ("DS", c), width: ("DS", w)}
        yield f"window_{name}.dcm", dicom(HU, tags, modality="MR"), 1
    script = {(0x10, 0x10): ("PN", SCRIPT.encode()), (0x28, 0x1055): ("LO", SCRIPT.encode())}
    yield "script.dcm", dicom(HU, script), 1
    yield "modality_script.dcm", dicom(HU, modality=SCRIPT), 1
    yield "charset.dcm", dicom(HU, {(8, 5): ("CS", SCRIPT.encode())}), 1
    yield "no_pixels.dcm", dicom(HU, {(0x7FE0, 0x10): None}), 0
    yield "no_rows.dcm", dicom(HU, {(0x28, 0x10): None}), 0
    yield "negative_rows.dcm", dicom(HU, {(0x28, 0x10): ("SS", struct.pack("<h", -24))}), 0
    yield "zero_columns.dcm", dicom(HU, {(0x28, 0x11): short(0)}), 0
    yield "rows_text.dcm", dicom(HU, {(0x28, 0x10): ("LO", SCRIPT.encode())}), 0
    yield "huge_rows.dcm", dicom(HU, shape=(65_535, 65_535)), 0
    yield "frames_many.dcm", dicom(HU, {(0x28, 8): ("IS", b"2000000000")}), 0
    yield "frames_negative.dcm", dicom(HU, {(0x28, 8): ("IS", b"-3")}), 0
    yield "frames_text.dcm", dicom(HU, {(0x28, 8): ("IS", b"SENTINEL")}), 0
    yield (
        "frames_two.dcm",
        dicom(np.stack([HU, HU]).reshape(-1, SIDE), {(0x28, 8): ("IS", b"2")}, shape=HU.shape),
        2,
    )
    yield "bits_seven.dcm", dicom(HU, {(0x28, 0x100): short(7)}), 0
    yield "bits_stored.dcm", dicom(HU, {(0x28, 0x101): short(40)}), 0
    yield "samples_200.dcm", dicom(HU, {(0x28, 2): short(200)}), 0
    yield "photometric.dcm", dicom(HU, {(0x28, 4): ("CS", b"SENTINEL")}), 0
    yield "slope_nan.dcm", dicom(HU, {(0x28, 0x1053): ("DS", b"nan")}), 1
    yield "slope_huge.dcm", dicom(HU, {(0x28, 0x1053): ("DS", b"1e308")}), 0
    yield (
        "lut_broken.dcm",
        dicom(HU, rescale | {(0x28, 0x3010): ("SQ", b"\xfe\xff\0\xe0\xff\xff\0\0x")}, modality="MR"),
        1,
    )
    yield "vr_wrong_length.dcm", dicom(HU, {(0x28, 0x10): ("US", b"\x18\0\0")}), 0
    yield "undefined_length.dcm", _undefined(), 0
    nested = b"\xfe\xff\0\xe0\xff\xff\xff\xff\t\0\x10\0SQ\0\0\xff\xff\xff\xff" * 4000
    yield "nested.dcm", dicom(HU, {(9, 0x10): ("SQ", nested)}), 1
    yield "nested_undefined.dcm", _lengthen(dicom(HU, {(9, 0x10): ("SQ", nested)}), len(nested)), 0
    yield "length_beyond.dcm", dicom(HU)[:200] + element((0x28, 0x10), "UN", b"", length=0xFFFFFFF0), 0
    yield "no_syntax.dcm", dicom(HU, syntax=None), 1
    yield "syntax_unknown.dcm", dicom(HU, syntax="1.2.3.4"), 0
    yield "syntax_video.dcm", dicom(encapsulate(b"video"), syntax="1.2.840.10008.1.2.4.100"), 0
    yield "no_preamble.dcm", dicom(HU, preamble=False), 1
    yield "only_preamble.dcm", bytes(128) + b"DICM", 0
    yield "deflated.dcm", dicom(HU, syntax=DEFLATED), 1
    yield "deflated_bomb.dcm", dicom(HU, {(0x7FE0, 0x11): ("OB", bytes(96 << 20))}, syntax=DEFLATED), 0
    yield "rle_bomb.dcm", dicom(encapsulate(_rle_bomb()), syntax=RLE), 0
    yield "jpeg_bomb.dcm", dicom(encapsulate(_jpeg_of(65_000, 65_000)), syntax=JPEG), 0
    yield "jpeg_2000_bomb.dcm", dicom(encapsulate(_jpeg_2000_of(60_000)), syntax=JPEG_2000), 0
    yield "jpeg_2000_tiles.dcm", dicom(encapsulate(_jpeg_2000_of(SIDE, tile=0)), syntax=JPEG_2000), 0
    yield "fragments.dcm", dicom(encapsulate(*[b""] * 5000), syntax=JPEG), 0


def _lengthen(content: bytes, length: int) -> bytes:
    """The same with one length of four bytes undefined."""
    return content.replace(struct.pack("<L", length), b"\xff\xff\xff\xff", 1)


def _undefined() -> bytes:
    return dicom(HU, {(0x7FE0, 0x10): None}) + element((0x7FE0, 0x10), "OW", HU.tobytes(), length=0xFFFFFFFF)


def _rle_bomb() -> bytes:
    segment = b"\x81\0" * 500_000  # 64 MB from 1
    return struct.pack("<16L", 2, 64, 64 + len(segment), *[0] * 13) + segment * 2


def _jpeg_of(rows: int, columns: int) -> bytes:
    return (
        b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, rows, columns, 1) + b"\1\x11\0\xff\xda\0\2" + bytes(64)
    )


def _jpeg_2000_of(side: int, *, tile: int = 64) -> bytes:
    size = struct.pack(">HHLLLLLLLLHBBB", 41, 0, side, side, 0, 0, tile, tile, 0, 0, 1, 15, 1, 1)
    return b"\xff\x4f\xff\x51" + size + bytes(64)


def _list_volumes() -> Iterator[tuple[str, bytes, int]]:
    floats = VOLUME.astype(np.float32)
    floats[0, 0, 0], floats[1, 1, 1], floats[2, 2, 2] = np.nan, np.inf, -np.inf
    flat = np.diag([1.0, 1.0, 1.0, 1.0])
    yield "nan_inf.nii", nifti(floats), 3
    yield "all_nan.nii", nifti(np.full((4, 4, 2), np.nan, np.float32)), 0
    yield "one_volume.nii", nifti(VOLUME[..., None]), 3
    yield "four_volumes.nii", nifti(np.stack([VOLUME] * 4, axis=-1)), 0
    yield "no_slices.nii", nifti(VOLUME, at_40=("<4h", 3, 6, 7, 0)), 0
    yield "negative_side.nii", nifti(VOLUME, at_40=("<4h", 3, -6, 7, 3)), 0
    yield "huge_sides.nii", nifti(VOLUME, at_40=("<4h", 3, 32_000, 32_000, 32_000)), 0
    yield "many_slices.nii", nifti(VOLUME, at_40=("<4h", 3, 1, 1, 3000)), 0
    yield "dims_nonsense.nii", nifti(VOLUME, at_40=("<h", 99)), 0
    yield "type_nonsense.nii", nifti(VOLUME, at_70=("<h", 7777)), 0
    yield "type_complex.nii", nifti(VOLUME.astype(np.complex64)), 0
    yield "offset_beyond.nii", nifti(VOLUME, at_108=("<f", 1e9)), 0
    yield "offset_nan.nii", nifti(VOLUME, at_108=("<f", float("nan"))), 0
    yield "slope_inf.nii", nifti(VOLUME, at_112=("<2f", float("inf"), 3.0)), 3
    yield "affine_nan.nii", nifti(VOLUME, flat, at_280=("<4f", *[float("nan")] * 4)), 0
    yield "affine_flat.nii", nifti(VOLUME, flat, at_280=("<12f", *[0.0] * 12)), 0
    yield "two_files.nii", nifti(VOLUME, at_344=("4s", b"ni1\0")), 0
    yield "script.nii", nifti(VOLUME, at_148=("40s", SCRIPT.encode())), 3
    yield "scan.nii.gz", gzip.compress(nifti(VOLUME), mtime=0), 3
    yield "cut.nii.gz", gzip.compress(nifti(VOLUME), mtime=0)[:-40], 0
    yield "bomb.nii.gz", zeros(96, nifti(VOLUME)), 0
    yield "announced_bomb.nii.gz", zeros(96, nifti(VOLUME, at_40=("<4h", 3, 30_000, 30_000, 500))), 0
    yield "text.nii.gz", gzip.compress(b"not a volume" * 50, mtime=0), 0


def _list_archives() -> Iterator[Hostile]:
    picture = encode(Image.fromarray(RAMP), "PNG")
    scan = dicom(HU)
    inner = pack({"scan.png": picture})
    yield Hostile("empty.zip", pack({}), 0, 1)
    yield Hostile("words.zip", pack({"readme.txt": b"no picture"}), 0, 1)
    yield Hostile("climbing.zip", pack({"../../evil.png": picture, "good.png": picture}), 1, 1)
    yield Hostile("climbing_back.zip", pack({"..\\evil.png": picture}), 0, 1)
    yield Hostile("absolute.zip", pack({"/etc/evil.png": picture, "C:/evil.png": picture}), 0, 2)
    yield Hostile("link.zip", pack_link("/etc/passwd"), 0, 1)
    yield Hostile("nested.zip", pack({"inner.zip": inner, "good.png": picture}), 1, 1)
    yield Hostile("password.zip", flag_encrypted(pack({"scan.png": picture})), 0, 1)
    yield Hostile("many.zip", pack([(f"{n}.png", b"") for n in range(10_000)], kind=zipfile.ZIP_STORED), 0, 1)
    yield Hostile("twice.zip", pack([("scan.png", picture), ("scan.png", scan)]), 2, 0)
    yield Hostile(
        "names.zip", pack({f"{SCRIPT}.png": picture, "a\u202eb\n.png": picture, "=1+1.png": picture}), 3, 0
    )
    yield Hostile("bomb.zip", pack({"bomb.png": bytes(96 << 20), "good.png": picture}), 0, 1)
    yield Hostile("bzip2.zip", pack({"scan.png": picture}, kind=zipfile.ZIP_BZIP2), 0, 1)
    yield Hostile("lzma.zip", pack({"scan.png": picture}, kind=zipfile.ZIP_LZMA), 0, 1)
    yield Hostile("litter.zip", pack({"__MACOSX/._scan.png": b"x", ".DS_Store": b"x", "s.png": picture}), 1, 0)
    yield Hostile("mixed.zip", pack({"good.dcm": scan, "bad.dcm": scan[:300], "text.png": b"no"}), 1, 2)
    yield Hostile("zip_named.png", inner, 1, 0)
    yield Hostile("nameless.zip", _drop_name(pack({"p.png": picture})), 1, 0)
    broken = bytearray(pack({"scan.png": picture}, kind=zipfile.ZIP_STORED))
    broken[60] ^= 0xFF  # the checksum does not fit
    yield Hostile("checksum.zip", bytes(broken), 0, 1)
    lying = bytearray(pack({"scan.png": picture, "zeros.png": bytes(8 << 20)}))
    at = lying.rindex(b"PK\1\2")
    struct.pack_into("<L", lying, at + 24, 100)  # says that 8 MiB are 100 bytes
    yield Hostile("lying.zip", bytes(lying), 1, 1)
