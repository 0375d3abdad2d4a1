"""The frozen 2D diffusion model: forward process, prior, families, text, training (seed 3.1)."""
