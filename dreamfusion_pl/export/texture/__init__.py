"""Textures and normal maps of a mesh."""
