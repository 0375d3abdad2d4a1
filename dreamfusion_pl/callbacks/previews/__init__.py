"""Pictures of what is being trained."""
