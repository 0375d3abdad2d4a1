"""Lightning callbacks: previews, weight averaging, checkpoints, safety, export, progress, status."""
