"""The Hessian of a closure from products alone: extreme eigenvalues, their vectors, the spectral density."""
