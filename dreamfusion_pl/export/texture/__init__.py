"""The colours and normals of a mesh, as pictures."""
