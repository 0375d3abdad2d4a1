"""Training of a prior from scratch (paper eq. 1)."""
