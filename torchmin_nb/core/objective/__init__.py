"""The functions that a solver calls: objective, constraints, residuals; and the same in its variables."""
