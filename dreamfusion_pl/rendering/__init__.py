"""The differentiable volume renderer (paper 3.1)."""
