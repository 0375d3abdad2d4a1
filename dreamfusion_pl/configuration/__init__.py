"""Configuration files of a command, and names of earlier versions."""
