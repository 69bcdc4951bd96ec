"""Callbacks that store a run: as a checkpoint, line by line, or for TensorBoard."""
