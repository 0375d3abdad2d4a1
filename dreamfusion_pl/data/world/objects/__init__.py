"""The objects of the procedural world as signed distances."""
