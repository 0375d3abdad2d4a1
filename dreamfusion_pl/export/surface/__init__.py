"""From a field to a triangle mesh."""
