"""One run, from start to result: everything around the solver, and the thread of a Run."""
