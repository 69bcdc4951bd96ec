"""Solvers whose vectors stay on the parameters' device: one small file each, over a state of tensors and numbers."""
