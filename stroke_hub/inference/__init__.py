"""Slices and a model -> predictions and explanations."""
