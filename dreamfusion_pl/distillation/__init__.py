"""Losses that distill the frozen prior into a scene (seed 3.2, 3.3, A.4)."""
