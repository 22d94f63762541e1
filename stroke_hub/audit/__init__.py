"""Leaks in a dataset, found before training."""
