"""A whole scan: loaded, judged as one, explained, and written back into its own voxels."""
