"""Losses that distill the frozen prior into a scene (paper 2.1, A.4)."""
