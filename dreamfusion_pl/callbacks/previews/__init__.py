"""Preview images and videos of a scene in training."""
