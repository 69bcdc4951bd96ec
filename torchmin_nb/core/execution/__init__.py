"""One run: around the solver from its start to its result, and in a thread of its own."""
