"""Metrics: geometry against ground truth, recognition, R-Precision, likelihood under the prior."""
