"""Diffusers pipelines as priors, one adapter for each family."""
