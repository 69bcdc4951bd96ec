"""LEAST_SQUARES_METHODS: one row for each method of `scipy.optimize.least_squares`.

Options, defaults and their meaning:
https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.least_squares.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from ...errors import ArgumentError, MemoryBudgetError
from ..runtime.control import EXHAUSTED, Ending
from ..runtime.memory import available_bytes, readable_bytes
from ..signatures import shares_parameters
from .options import OptionSpec
from .row import MethodRow, option_rows

__all__ = [
    "LARGE_JACOBIAN",
    "LEAST_SQUARES_METHODS",
    "LeastSquaresMethod",
    "LeastSquaresSpec",
]

LeastSquaresMethod = Literal["trf", "dogbox", "lm", "gauss-newton"]
"""The names of LEAST_SQUARES_METHODS, for editors and type checkers."""
_LOSSES = ("linear", "soft_l1", "huber", "cauchy", "arctan")
LARGE_JACOBIAN = 2**25
"""Number of entries of a Jacobian from which products are faster than a factorisation."""


@shares_parameters(MethodRow)
@dataclass(frozen=True, slots=True)
class LeastSquaresSpec(MethodRow):
    """A row of LEAST_SQUARES_METHODS: what a method of least squares needs and takes.

    Attributes
    ----------
    {shared}
    arrays : callable
        Number of float64 entries that SciPy and the Jacobian need for m residuals and n parameters.
    robust : bool
        Whether it takes losses other than the sum of squares.
    operator : bool
        Whether products with the Jacobian are enough.
    overdetermined : bool
        Whether it needs m ≥ n.
    radius : str
        How its trust radius is observed; "none" without one.
    zero : Ending
        The ending that a status of 0 stands for, which is never a success here.

    Examples
    --------
    >>> LEAST_SQUARES_METHODS["lm"].bounds, LEAST_SQUARES_METHODS["trf"].bounds
    (False, True)
    """

    arrays: Callable[[int, int], float]
    robust: bool = True
    operator: bool = True
    overdetermined: bool = False
    radius: str = "loop"
    family: str = field(default="least squares", kw_only=True)
    bounds: bool = field(default=True, kw_only=True)
    cost: str = field(default="1 closure call, and a Jacobian of M×N at each accepted point", kw_only=True)
    zero: Ending = EXHAUSTED

    def __reduce__(self) -> tuple[Callable[[str], LeastSquaresSpec], tuple[str]]:
        """A row is copied and pickled by name."""
        return _row, (self.name,)

    @property
    def needs(self) -> str:
        """Its requirements, in words."""
        return "residuals"

    def plan(self, m: int, n: int, jacobian: str, tr_solver: str | None, budget: int | None) -> str:
        """Whether the Jacobian is computed as an array or as products.

        Parameters
        ----------
        m : int
            Number of residuals.
        n : int
            Number of parameters.
        jacobian : {"auto", "dense", "operator"}
            What was asked for.
        tr_solver : {"exact", "lsmr"} or None
            Solver of the subproblems.
        budget : int or None
            Bytes that arrays may take; None for what the machine has available.

        Returns
        -------
        {"dense", "operator"}
            The form of the Jacobian.

        Raises
        ------
        ArgumentError
            If the method needs m ≥ n and m < n.
        MemoryBudgetError
            If a dense Jacobian would not fit.
        """
        if self.overdetermined and m < n:
            raise ArgumentError(
                f"{self.name} needs at least as many residuals as parameters, got {m} residuals for {n} parameters; "
                f"use trf or dogbox"
            )
        if jacobian == "operator":
            return jacobian
        needed, limit = 8 * self.arrays(m, n), available_bytes() if budget is None else budget
        free = jacobian == "auto" and self.operator and tr_solver != "exact"
        if free and (needed > limit or m * n >= LARGE_JACOBIAN):
            return "operator"
        if needed > limit:
            raise MemoryBudgetError(
                f"{self.name} needs about {readable_bytes(needed)} for a dense Jacobian of {m:,} residuals by {n:,} "
                f"parameters, and {readable_bytes(limit)} are available; trf with jacobian='operator' needs no array"
            )
        return "dense"


def _tolerance(name: str, help: str) -> OptionSpec:
    return OptionSpec(name, 1e-8, "float", help, low=0, tolerance=True)


_COMMON = (
    _tolerance("ftol", "Stop when the cost decreases by less than this, relatively."),
    _tolerance("xtol", "Stop when the step is smaller than this, relative to x."),
    _tolerance("gtol", "Stop when the (scaled) gradient is below this everywhere."),
    OptionSpec("max_nfev", None, "int", "Largest number of closure calls; default 100·n.", low=1, unlimited=2**31 - 1),
    OptionSpec(
        "x_scale", None, "any", "Characteristic scale of each variable, or 'jac': from the columns of the Jacobian."
    ),
    OptionSpec(
        "verbose",
        0,
        "choice",
        "SciPy prints nothing (0), a summary (1), or every iteration (2).",
        choices=(0, 1, 2),
        scipy_only=True,
    ),
)
_ROBUST = (
    OptionSpec(
        "loss",
        "linear",
        "loss",
        "ρ of the cost ½ Σ ρ(f²); robust ones reduce outliers.",
        choices=_LOSSES,
    ),
    OptionSpec(
        "f_scale",
        1.0,
        "float",
        "Size from which robust losses treat a residual as outlier.",
        low=1e-150,
        high=1e150,
    ),
    OptionSpec(
        "tr_solver",
        None,
        "choice",
        "Trust-region subproblems: SVD of a dense Jacobian, or LSMR with products.",
        choices=(None, "exact", "lsmr"),
    ),
    OptionSpec("tr_options", None, "mapping", "Options of the subproblem solver: a dict."),
)
_PLAIN = (
    OptionSpec("loss", "linear", "loss", "The plain sum of squares.", choices=("linear",), scipy_only=True),
    *(replace(row, help=f"Without effect in lm. {row.help}", scipy_only=True) for row in _ROBUST[1:]),
)


_REFERENCE = "https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.least_squares.html"
_ALL = (
    LeastSquaresSpec(
        "trf",
        "Trust region reflective: robust, takes bounds, small and large problems (Branch, Coleman, Li 1999).",
        _REFERENCE,
        option_rows(*_COMMON, *_ROBUST),
        arrays=lambda m, n: 5.0 * (m + n) * n,
    ),
    LeastSquaresSpec(
        "dogbox",
        "Dogleg in a box: often quickest on small problems with bounds (Voglis and Lagaris 2004).",
        _REFERENCE,
        option_rows(*_COMMON, *_ROBUST),
        arrays=lambda m, n: 4.0 * m * n + n * n,
    ),
    LeastSquaresSpec(
        "lm",
        "Levenberg-Marquardt of MINPACK: quick on small problems without bounds (Moré 1978).",
        _REFERENCE,
        option_rows(*_COMMON, *_PLAIN),
        arrays=lambda m, n: 4.0 * m * n + n * n,
        bounds=False,
        robust=False,
        operator=False,
        overdetermined=True,
        radius="none",
        engines=("scipy", "torch"),
    ),
    LeastSquaresSpec(
        "gauss-newton",
        "Minimum-norm steps, damped where they stall: for residuals that a network can fit closely, as of PINNs.",
        "https://doi.org/10.48550/arXiv.2302.13163",
        option_rows(
            *(option for option in _COMMON if not option.scipy_only and option.name != "x_scale"),
            OptionSpec("max_iter", None, "int", "Largest number of iterations; no limit by default.", low=1),
            OptionSpec(
                "rcond", 1e-6, "float", "Singular values below this times the largest count as zero.", low=0, high=1
            ),
            OptionSpec(
                "solver",
                None,
                "choice",
                "How the step is computed: by a factorisation of J, or by conjugate gradients with products; None: by "
                "size.",
                choices=(None, "exact", "cg"),
            ),
        ),
        arrays=lambda m, n: 3.0 * m * n,
        bounds=False,
        robust=False,
        radius="none",
        engines=("torch",),
        cost="a Jacobian of M×N, its factorisation, and some closure calls",
    ),
)

LEAST_SQUARES_METHODS: Mapping[str, LeastSquaresSpec] = MappingProxyType({spec.name: spec for spec in _ALL})
"""The methods of `scipy.optimize.least_squares`, keyed by SciPy's spelling."""


def _row(name: str) -> LeastSquaresSpec:
    return LEAST_SQUARES_METHODS[name]
