"""Compressed pixels are as large as the header says, or refused before anything is decoded."""

from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import generate_frames

from stroke_hub import UnreadableImage
from stroke_hub.io.limits import check_codestream
from stroke_hub.io.quiet import silence

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm",
                                  "SC_rgb_jpeg_gdcm.dcm", "JPGExtended.dcm", "SC_rgb_jpeg.dcm"])  # fmt: skip
def test_compressed_pixels_must_be_as_large_as_the_header_says(name: str) -> None:
    with silence():
        ds = pydicom.dcmread(SHIPPED / name)

    class Layout:
        rows, columns, samples, bits_allocated = ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.BitsAllocated

    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    check_codestream(frame, Layout, ds.file_meta.TransferSyntaxUID)
    for attribute, value in (("rows", ds.Rows // 2), ("columns", 1), ("samples", 4)):
        wrong = type("Wrong", (Layout,), {attribute: value})
        with pytest.raises(UnreadableImage, match="contradict"):
            check_codestream(frame, wrong, ds.file_meta.TransferSyntaxUID)
    for cut in (0, 1, 20):
        with pytest.raises(UnreadableImage, match="contradict"):
            check_codestream(frame[:cut], Layout, ds.file_meta.TransferSyntaxUID)
