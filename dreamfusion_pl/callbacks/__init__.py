"""What happens around training: previews, checkpoints, turntable, mesh, progress (none of it is the algorithm)."""
