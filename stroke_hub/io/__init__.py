"""A file or an array -> grey slices."""
