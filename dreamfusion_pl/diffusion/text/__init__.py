"""Prompts, view by view, and their embeddings."""
