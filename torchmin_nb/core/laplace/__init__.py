"""The Laplace approximation: a normal distribution of the parameters, its predictions and its evidence."""
