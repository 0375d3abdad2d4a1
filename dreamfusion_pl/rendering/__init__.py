"""The differentiable volume renderer (seed 4)."""
