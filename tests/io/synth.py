"""Small synthetic heads and DICOM/NIfTI writers for the cases (nothing of a patient)."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def head(n=128, nz=12):
    """Draw a head in HU, (z, y, x) towards superior, posterior and left.

    A ring of bone, brain of 35 HU, a bright lesion on the patient's left, a dark ventricle in front, a nose.
    """
    y, x = np.mgrid[:n, :n]
    c = (n - 1) / 2
    r = np.hypot((x - c) / 0.78, (y - c) / 0.95)
    v = np.full((nz, n, n), -1000, np.int16)
    for z in range(nz):
        k = n * (0.44 - 0.012 * abs(z - nz / 2))
        s = v[z]
        s[r < k] = 1200
        s[r < k - 5] = 35
        s[np.hypot(x - (c + 22), y - (c + 8)) < 9] = 75  # lesion, patient's left = image right
        s[np.hypot(x - c, (y - (c - 14))) < 6] = 5  # ventricle, anterior
        s[(abs(x - c) < 3) & (y < c - k * 0.95 + 2) & (y > c - k * 0.95 - 8)] = 300  # nose: anterior
    return v


def dcm(
    pixels,
    *,
    modality="CT",
    iop=(1, 0, 0, 0, 1, 0),
    ipp=(0, 0, 0),
    spacing=(1.5, 1.5),
    slope=1,
    intercept=-1024,
    bits=16,
    signed=False,
    series=None,
    number=1,
    **more,
):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2" if modality == "CT" else "1.2.840.10008.5.1.4.1.1.4"
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.Modality = modality
    ds.StudyInstanceUID = "1.2.3"
    ds.SeriesInstanceUID = series or "1.2.3.4"
    ds.SeriesNumber = 1
    ds.InstanceNumber = number
    ds.PatientName = "Nobody"
    ds.PatientID = "0"
    ds.StudyDate = "20200101"
    ds.Manufacturer = "SYN"
    ds.ImageOrientationPatient = [float(a) for a in iop]
    ds.ImagePositionPatient = [float(a) for a in ipp]
    ds.PixelSpacing = [float(a) for a in spacing]
    ds.SliceThickness = 5.0
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = 16
    ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = int(signed)
    if slope is not None:
        ds.RescaleSlope, ds.RescaleIntercept = str(slope), str(intercept)
    for k, a in more.items():
        setattr(ds, k, a)
    ds.PixelData = pixels.astype(np.int16 if signed else np.uint16).tobytes()
    return ds
