"""Meshes, pictures and films as files."""
