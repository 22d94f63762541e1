"""Layouts of scan datasets, one file a layout -> a table of scans."""
