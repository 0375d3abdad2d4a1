"""The frozen 2D diffusion model: forward process, prior, families, text, training (paper 2)."""
