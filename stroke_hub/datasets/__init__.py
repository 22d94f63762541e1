"""The datasets of the field, NIfTI or DICOM with masks or labels -> one table of scans -> a table of slices."""
