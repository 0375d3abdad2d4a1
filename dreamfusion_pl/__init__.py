"""DreamFusion in PyTorch Lightning: a sentence becomes a 3D object."""
