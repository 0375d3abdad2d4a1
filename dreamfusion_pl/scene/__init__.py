"""The 3D scene that is optimized: features, fields, background (paper 3.1)."""
