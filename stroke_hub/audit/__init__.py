"""Leaks, shortcuts and labels in doubt in a dataset, found before training."""
