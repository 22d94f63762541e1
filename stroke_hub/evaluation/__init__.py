"""A model and labelled slices -> report.json and what it is judged by."""
