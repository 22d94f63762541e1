"""A table of slices -> a trained run folder."""
