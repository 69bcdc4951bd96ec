"""The wrappers: what users call, and the reading of their arguments."""
