"""The functions that a solver calls: objective, constraints, residuals; also as functions of its variables."""
