"""The run folder: its layout, and how checkpoints and the configuration are written."""
