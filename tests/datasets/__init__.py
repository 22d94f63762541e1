"""Tests of the datasets of the field."""
