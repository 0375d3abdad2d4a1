"""The files of a run: where they are, and how checkpoints and the configuration are written."""
