"""Finds and loads diffusers pipelines, with a clear error for what cannot be loaded."""
