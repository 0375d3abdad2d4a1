"""Extraction of a triangle mesh from a field."""
