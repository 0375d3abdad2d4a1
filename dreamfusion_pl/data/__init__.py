"""Training data: cameras and views, and the procedural world."""
