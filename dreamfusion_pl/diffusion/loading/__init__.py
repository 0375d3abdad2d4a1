"""Finds and loads diffusers pipelines, with clear errors for those that cannot be loaded."""
