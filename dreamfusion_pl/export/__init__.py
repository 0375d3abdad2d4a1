"""Export of a scene as a textured mesh."""
