"""Probabilities -> figures and their intervals. Numbers only: no model, no file."""
