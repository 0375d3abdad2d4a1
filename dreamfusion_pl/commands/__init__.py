"""Commands other than fit, validate, test and predict."""
