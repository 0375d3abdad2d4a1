"""The 3D scene that is optimized: features, fields, background (seed 4)."""
