"""What happens around training: previews, checkpoints, turntable, mesh, progress."""
