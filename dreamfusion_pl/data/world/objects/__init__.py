"""The objects of the procedural world as signed distance functions."""
