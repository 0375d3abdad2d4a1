"""Commands beside fit, validate, test and predict."""
