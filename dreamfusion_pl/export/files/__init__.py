"""Writers for meshes, images and videos."""
