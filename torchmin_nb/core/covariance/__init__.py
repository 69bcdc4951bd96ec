"""Covariance and standard errors at the end of a run."""
