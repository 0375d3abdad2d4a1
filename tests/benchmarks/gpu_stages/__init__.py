"""The stages of the GPU campaign (``gpu.py``), a file each."""
