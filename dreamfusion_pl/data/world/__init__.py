"""The procedural world: captioned objects with known geometry and appearance."""
