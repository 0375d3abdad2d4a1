"""Training of a prior from scratch (seed eq. 1)."""
