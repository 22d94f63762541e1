"""A folder -> a table of slices -> batches."""
