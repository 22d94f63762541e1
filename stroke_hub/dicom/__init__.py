"""The answer for a scan as DICOM objects that a PACS or viewer takes, tied to the instances that it is about."""
