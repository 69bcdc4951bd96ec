"""Parameters as one vector, bounds and scales, and the variables that a solver sees."""
