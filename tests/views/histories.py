"""What the views draw: histories of runs that never were, and of two that were."""

import math

from torchmin_nb import History, Iteration, MinimizeWrapper
from torchmin_nb.core.history.records import Totals
from torchmin_nb.problems import PROBLEMS


def a_history(method="trust-ncg", length=20, *, radius=True, gradient=True, offset=0.0, ended=True, metrics=()):
    """A run whose loss halves each iteration down to `offset`; with a radius, every fourth step is rejected.

    metrics: names of numbers that are recorded at each iteration.
    """
    history = History(method, n_parameters=2, dtype="float64")
    for index in range(length):
        rejected = radius and index % 4 == 3
        history.append(
            Iteration(
                index,
                loss=2.0 ** -(index % 60) + offset,
                grad_norm=3.0 / (1 + index) if gradient else None,
                trust_radius=1.0 + index if radius else None,
                reduction_ratio=(-1.0 if rejected else 0.9) if radius and index else None,
                accepted=(not rejected) if radius and index else None,
                step_norm=(0.0 if rejected else 0.5) if index else None,
                metrics=dict.fromkeys(metrics, 1.0 + index),
                nfev=2 * index + 1,
                nhvp=3 * index,
                elapsed=0.5 * index,
            )
        )
    if ended and length:
        totals = Totals(nfev=2 * length, njev=length, nhev=0, nhvp=3 * length, seconds=0.5 * length)
        history.ended(success=True, status=0, message="It converged.", loss=history[-1].loss, totals=totals)
    return history


def waves(length):
    """A long run with a deepest and a highest point somewhere in its middle."""
    history = History("CG")
    for index in range(length):
        history.append(Iteration(index, loss=2 + math.sin(index / 7), grad_norm=1.0, elapsed=index * 1e-3))
    return history


def runs_in_the_valley():
    """Two runs on Rosenbrock's function with their trajectories, and the problem."""
    runs = {}
    for method in ("trust-ncg", "Nelder-Mead"):
        problem = PROBLEMS["Rosenbrock"].make()
        optimizer = MinimizeWrapper(problem.parameters, method, keep_parameters=True)
        optimizer.step(problem.closure)
        runs[method] = optimizer.history
    return runs, problem
