"""View-dependent prompts and their embeddings."""
