"""The methods in words: one table a family of solvers, for the command line and the README."""

from __future__ import annotations

from collections.abc import Mapping

from .global_search import GLOBAL_METHODS
from .least_squares import LEAST_SQUARES_METHODS
from .local import METHODS

__all__ = ["method_tables"]

Table = list[tuple[str, ...]]
_YES = {True: "yes", False: "–"}


def method_tables() -> Mapping[str, Table]:
    """A header and one row a method, by the wrapper that takes them; the last column says when to use it."""
    return {"MinimizeWrapper": _local(), "LeastSquaresWrapper": _least_squares(), "Global search": _global()}


def _local() -> Table:
    head = ("method", "needs", "memory", "bounds", "constraints", "trust radius", "when to use it")
    return [
        head,
        *(
            (
                spec.name,
                spec.needs,
                "N²" if spec.dense else "N",
                _YES[spec.bounds],
                _YES[spec.constraints],
                _YES[spec.radius != "none"],
                spec.summary,
            )
            for spec in METHODS.values()
        ),
    ]


def _least_squares() -> Table:
    head = ("method", "needs", "bounds", "robust losses", "Jacobian as products", "trust radius", "when to use it")
    return [
        head,
        *(
            (
                spec.name,
                "residuals",
                _YES[spec.bounds],
                _YES[spec.robust],
                _YES[spec.operator],
                _YES[spec.radius != "none"],
                spec.summary,
            )
            for spec in LEAST_SQUARES_METHODS.values()
        ),
    ]


def _global() -> Table:
    head = ("method", "needs bounds", "constraints", "random", "descends locally", "when to use it")
    return [
        head,
        *(
            (
                spec.name,
                _YES[spec.bounds],
                _YES[spec.constraints],
                _YES[spec.stochastic],
                _YES[spec.local],
                spec.summary,
            )
            for spec in GLOBAL_METHODS.values()
        ),
    ]
