"""Callbacks that keep a run: on disk, line by line, or for TensorBoard."""
