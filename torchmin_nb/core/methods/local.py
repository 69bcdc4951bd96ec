"""METHODS: one row for each local method of `scipy.optimize.minimize` and of our own engine.

Nothing else in the package names a method, except core/solvers/table.py: the class of each solver on the device.

Options, defaults and their meaning: https://docs.scipy.org/doc/scipy/reference/optimize.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from ...errors import UnknownMethodError
from ..runtime.control import ITERATIONS, UNCONVERGED, Ending
from ..signatures import shares_parameters
from .options import OptionSpec
from .row import MethodRow, option_rows

__all__ = [
    "CUSTOM",
    "METHODS",
    "OWN_METHODS",
    "MethodName",
    "MethodSpec",
    "find_method",
    "own_rows",
    "put_own",
    "put_rows",
    "take_own",
]

MethodName = Literal[
    "Nelder-Mead",
    "Powell",
    "CG",
    "BFGS",
    "SSBFGS",
    "SSBroyden",
    "L-BFGS-B",
    "TNC",
    "SLSQP",
    "Newton-CG",
    "dogleg",
    "trust-ncg",
    "trust-krylov",
    "trust-exact",
    "trust-constr",
    "COBYLA",
    "COBYQA",
]
"""The names of METHODS, for editors and type checkers."""


@shares_parameters(MethodRow)
@dataclass(frozen=True, slots=True)
class MethodSpec(MethodRow):
    """A row of METHODS: what a local method needs, what it takes and what it reports.

    Attributes
    ----------
    {shared}
    gradient : {"none", "required"}
        Whether it needs a gradient.
    curvature : {"none", "hvp", "dense"}
        Second derivatives that it needs: none, Hessian-vector products only, or an N×N Hessian.
    shift : bool
        Whether the Hessian must be made positive definite.
    constraint_form : {"dict", "object", "inequalities"}
        How SciPy takes constraints: dicts, objects, or dicts without equalities.
    radius : str
        How its trust radius is observed; "none" without one.
    radius_option : str or None
        The option that sets the initial trust radius.
    first_callback_is_start : bool
        Whether SciPy's first callback is at the start.
    callback_at : {"iterate", "trial", "evaluation"}
        Where SciPy calls back: at each iterate; at the first trial of a line search, so that iterates are recorded when
        their gradient is asked for; or at evaluations, so that iterations are recorded by the method's own count.
    counted_at_start : int
        Difference between SciPy's ``nit`` and the iterations made, if it counts the start too.
    nonfinite : {"inf", "wall"}
        What SciPy is shown at a NaN or infinite trial: infinity, or a finite wall.
    arrays : callable
        Number of float64 entries that SciPy and the Hessian take for n variables, beyond a multiple of n.
    forced : dict
        Options passed to SciPy if the user sets ``maxiter`` and the solver has no such option.
    warm_start_options : tuple of (str, str, callable)
        Options that continue an earlier run: the option, the field of the result it is computed from, and the function.
    lost_state : str
        What a continued run has lost, in words.
    calls : callable
        About how many closure calls the first iteration takes with n variables.
    maxiter_counts : {"iterations", "closure calls"}
        What the option ``maxiter`` counts.
    custom : bool
        Whether SciPy runs a callable instead of a solver of its own.
    any_options : bool
        Whether it takes options that have no row.
    solver : callable or None
        The callable of a method of your own.
    step : {"line search", "trust region", "simplex", ""}
        How an iteration finds its step; empty for other ways.
    wolfe : tuple of (float or str, float or str) or None
        Constants (c1, c2) of the strong Wolfe conditions of its line search: numbers, or names of options. c2 is inf
        without a curvature condition.
    device_arrays : float
        Number of N×N arrays that a solver on the device takes.
    zero : Ending
        The ending that a status of 0 stands for if it is no success.

    Examples
    --------
    >>> METHODS["trust-ncg"].needs, METHODS["trust-ncg"].engines
    ('gradient, Hessian-vector products', ('scipy', 'torch'))
    >>> [name for name, row in METHODS.items() if row.constraints]
    ['SLSQP', 'trust-constr', 'COBYLA', 'COBYQA']
    """

    gradient: str = "none"
    curvature: str = "none"
    shift: bool = False
    constraint_form: str = "object"
    radius: str = "none"
    radius_option: str | None = None
    first_callback_is_start: bool = False
    callback_at: str = "iterate"
    counted_at_start: int = 0
    nonfinite: str = "inf"
    arrays: Callable[[int], float] = lambda n: 0.0
    forced: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    warm_start_options: tuple[tuple[str, str, Callable[[Any], Any]], ...] = ()
    lost_state: str = ""
    calls: Callable[[int], float] = lambda n: 2.0
    maxiter_counts: str = "iterations"
    custom: bool = False
    any_options: bool = False
    solver: Callable[..., Any] | None = None
    step: str = ""
    wolfe: tuple[float | str, float | str] | None = None
    device_arrays: float = 0.0
    zero: Ending = UNCONVERGED

    def __reduce__(self) -> tuple[Callable[[str], MethodSpec], tuple[str]]:
        """A row is copied and pickled by name."""
        return _row, (self.name,)

    @property
    def level(self) -> str:
        """What a closure call computes for it: "value", "gradient" or "curvature"."""
        if self.curvature != "none":
            return "curvature"
        return "value" if self.gradient == "none" else "gradient"

    @property
    def dense(self) -> bool:
        """Whether it keeps N×N matrices."""
        return self.arrays(1000) > 1000**2 or self.device_arrays > 0

    @property
    def needs(self) -> str:
        """What it needs, in words."""
        words = {"none": "gradient", "hvp": "gradient, Hessian-vector products", "dense": "gradient, Hessian"}
        return "loss" if self.gradient == "none" else words[self.curvature]


def _symmetric(matrix: Any) -> Any:
    """Symmetrise exactly: SciPy compares hess_inv0 with its transpose to the last bit."""
    return (matrix + matrix.T) / 2


def _squares(count: float) -> Callable[[int], float]:
    return lambda n: count * n**2


_EPS32 = float(np.finfo(np.float32).eps)
_STEP = 1.4901161193847656e-08
_STEP32 = _EPS32**0.5


_INT = 2**31 - 1


def _limit(name: str, default: int | None, help: str, low: int = 1, unlimited: float = _INT) -> OptionSpec:
    return OptionSpec(name, default, "int", help, low=low, unlimited=unlimited)


def _maxiter(
    default: int | None, help: str, *, ours: bool = False, low: int = 0, unlimited: float = _INT
) -> OptionSpec:
    return OptionSpec("maxiter", default, "int", help, low=low, ours=ours, unlimited=unlimited)


def _tolerance(name: str, default: float, help: str, low: float = 0.0, high: float | None = None) -> OptionSpec:
    return OptionSpec(name, default, "float", help, low=low, high=high, tolerance=True)


_DISP = OptionSpec("disp", False, "bool", "Print a summary when the run ends.", ours=True)
_RETURN_ALL = OptionSpec("return_all", False, "bool", "Keep every iterate in result.allvecs.", scipy_only=True)
_ABSOLUTE = "Absolute step of finite differences when jac=False; jac='2-point' uses finite_diff_rel_step."
_RELATIVE = "Step of finite differences relative to x when jac='2-point' or '3-point'; in trust-constr also False."
_DIFFERENCES = (
    OptionSpec("eps", _STEP, "step", _ABSOLUTE, float32=_STEP32, shape=("N",), scipy_only=True),
    OptionSpec("finite_diff_rel_step", None, "step", _RELATIVE, float32=_STEP32, shape=("N",), scipy_only=True),
    OptionSpec("workers", None, "map", "Map for parallel finite differences (SciPy 1.16 or newer).", scipy_only=True),
)
_WORKERS = _DIFFERENCES[2:]
_NORM = OptionSpec(
    "norm", np.inf, "float", "Order of the gradient norm that gtol bounds.", low=1e-6, choices=(-np.inf,)
)
_PER_VARIABLE = "Largest number of iterations; default 200·N."


def _wolfe(c2: float) -> tuple[OptionSpec, ...]:
    return (
        OptionSpec("c1", 1e-4, "float", "Sufficient-decrease (Armijo) constant of the line search.", low=0, high=1),
        OptionSpec("c2", c2, "float", "Curvature (Wolfe) constant of the line search; c1 < c2.", low=0, high=1),
    )


_TRUST_REGION = (
    _maxiter(None, _PER_VARIABLE),
    _tolerance("gtol", 1e-4, "Stop when the gradient's 2-norm is below this."),
    OptionSpec("initial_trust_radius", 1.0, "float", "Trust radius at the start.", low=1e-12, high=1e100),
    OptionSpec("max_trust_radius", 1000.0, "float", "The radius never grows beyond this.", low=1e-12, high=1e100),
    OptionSpec("eta", 0.15, "float", "A step is accepted when its reduction ratio exceeds this.", low=0, high=0.25),
    _DISP,
    _RETURN_ALL,
    *_WORKERS,
)
_BOTH = ("scipy", "torch")
_GRADIENT_FREE = "gradient-free"
_FIRST = "first order and quasi-Newton"
_SECOND = "Newton and trust region"
_CONSTRAINED = "constrained"
OWN = "your own"
_DOC = "https://docs.scipy.org/doc/scipy/reference/optimize.minimize-{}.html"


def _doc(slug: str) -> str:
    return _DOC.format(slug)


_BFGS = (
    _maxiter(None, _PER_VARIABLE),
    _tolerance("gtol", 1e-5, "Stop when the gradient norm is below this."),
    OptionSpec("xrtol", 0.0, "float", "Stop when a step is below this times the norm of x.", low=0),
    _NORM,
    *_wolfe(0.9),
    OptionSpec(
        "hess_inv0",
        None,
        "array",
        "Initial inverse Hessian, shape (N, N).",
        both_axes=True,
        loss_power=-1,
        shape=("N", "N"),
    ),
    _DISP,
    _RETURN_ALL,
    *_DIFFERENCES,
)
_SELF_SCALED = "https://doi.org/10.1016/j.jcp.2024.113656"


def _self_scaled(name: str, summary: str) -> MethodSpec:
    return MethodSpec(
        name,
        summary,
        _SELF_SCALED,
        option_rows(*(option for option in _BFGS if not option.scipy_only)),
        family=_FIRST,
        gradient="required",
        nonfinite="wall",
        warm_start_options=(("hess_inv0", "hess_inv", _symmetric),),
        cost="1 or 2 closure calls with gradients, and N² arithmetic",
        step="line search",
        wolfe=("c1", "c2"),
        engines=("torch",),
        device_arrays=1,
    )


_ALL = (
    MethodSpec(
        "Nelder-Mead",
        "Moves a simplex of N+1 points; robust to noise, for a handful of parameters.",
        _doc("neldermead"),
        option_rows(
            _maxiter(None, _PER_VARIABLE, unlimited=np.inf),
            _limit("maxfev", None, "Largest number of closure calls; default 200·N.", unlimited=np.inf),
            _tolerance("xatol", 1e-4, "Stop when the simplex is smaller than this in every coordinate."),
            _tolerance("fatol", 1e-4, "Stop when the losses of the simplex differ by less than this."),
            OptionSpec("adaptive", False, "bool", "Adapt the coefficients to the number of parameters."),
            OptionSpec(
                "initial_simplex", None, "array", "Start simplex, shape (N+1, N); overrides x0.", shape=("N+1", "N")
            ),
            _DISP,
            _RETURN_ALL,
        ),
        family=_GRADIENT_FREE,
        bounds=True,
        counted_at_start=1,
        arrays=_squares(3),
        warm_start_options=(("initial_simplex", "final_simplex", np.array),),
        cost="1 or 2 closure calls, after N+1 for the simplex",
        calls=lambda n: n + 2.0,
        step="simplex",
    ),
    MethodSpec(
        "Powell",
        "Line searches along a set of directions that it improves; no gradient, quick on smooth valleys.",
        _doc("powell"),
        option_rows(
            _maxiter(None, "Largest number of iterations; default 1000·N.", unlimited=np.inf),
            _limit("maxfev", None, "Largest number of closure calls; default 1000·N.", unlimited=np.inf),
            _tolerance("xtol", 1e-4, "Relative error of the line searches.", high=1.0),
            _tolerance("ftol", 1e-4, "Stop when the relative decrease of the loss is below this."),
            OptionSpec("direc", None, "array", "Initial directions, shape (N, N).", shape=("N", "N")),
            _DISP,
            _RETURN_ALL,
        ),
        family=_GRADIENT_FREE,
        bounds=True,
        arrays=_squares(2),
        warm_start_options=(("direc", "direc", np.array),),
        cost="about 10·N closure calls, a line search along each of N directions",
        calls=lambda n: 10.0 * n,
    ),
    MethodSpec(
        "CG",
        "Nonlinear conjugate gradients: a few vectors of memory, for very many parameters.",
        _doc("cg"),
        option_rows(
            _maxiter(None, _PER_VARIABLE),
            _tolerance("gtol", 1e-5, "Stop when the gradient norm is below this."),
            _NORM,
            *_wolfe(0.4),
            _DISP,
            _RETURN_ALL,
            *_DIFFERENCES,
        ),
        family=_FIRST,
        gradient="required",
        nonfinite="wall",
        lost_state="its last search direction",
        cost="about 2 closure calls with gradients",
        step="line search",
        wolfe=("c1", "c2"),
        engines=_BOTH,
    ),
    MethodSpec(
        "BFGS",
        "Quasi-Newton with a dense inverse Hessian: the default up to about a thousand parameters.",
        _doc("bfgs"),
        option_rows(*_BFGS),
        family=_FIRST,
        gradient="required",
        nonfinite="wall",
        arrays=_squares(6),
        warm_start_options=(("hess_inv0", "hess_inv", _symmetric),),
        cost="1 or 2 closure calls with gradients, and N² arithmetic",
        step="line search",
        wolfe=("c1", "c2"),
        engines=_BOTH,
        device_arrays=1,
    ),
    _self_scaled(
        "SSBFGS",
        "Self-scaled BFGS: rescales its inverse Hessian at each step; for stiff losses such as those of PINNs.",
    ),
    _self_scaled(
        "SSBroyden",
        "Self-scaled Broyden: beyond BFGS where curvatures differ by many powers of ten, as in PINNs.",
    ),
    MethodSpec(
        "L-BFGS-B",
        "Limited-memory quasi-Newton with bounds: the first choice for large smooth problems.",
        _doc("lbfgsb"),
        option_rows(
            _maxiter(15000, "Largest number of iterations."),
            _limit("maxfun", 15000, "Largest number of function evaluations."),
            _tolerance("ftol", 2.220446049250313e-09, "Stop when the relative decrease is below this."),
            _tolerance("gtol", 1e-5, "Stop when the projected gradient is below this everywhere."),
            OptionSpec("maxcor", 10, "int", "Number of remembered corrections.", low=1, high=10000),
            _limit("maxls", 20, "Largest number of line-search steps in an iteration."),
            OptionSpec("eps", 1e-8, "step", _ABSOLUTE, float32=_STEP32, shape=("N",), scipy_only=True),
            OptionSpec("iprint", -1, "int", "Ignored: SciPy is removing it; use disp.", high=_INT, ours=True),
            _DISP,
            *_DIFFERENCES[1:],
        ),
        family=_FIRST,
        gradient="required",
        bounds=True,
        nonfinite="wall",
        lost_state="its correction pairs",
        cost="1 or 2 closure calls with gradients",
        step="line search",
        wolfe=(1e-3, 0.9),
        engines=_BOTH,
    ),
    MethodSpec(
        "TNC",
        "Truncated Newton with bounds; its Hessian products are differences of gradients.",
        _doc("tnc"),
        option_rows(
            _maxiter(None, "Largest number of iterations; default: bounded by maxfun only.", ours=True),
            _limit("maxfun", None, "Largest number of function evaluations; default max(100, 10·N)."),
            OptionSpec(
                "ftol",
                -1,
                "float",
                "Absolute precision of the loss; negative: accuracy.",
                tolerance=True,
                float32=0.0,
            ),
            OptionSpec("xtol", -1, "float", "Precision of scaled x; negative: sqrt(eps).", tolerance=True),
            OptionSpec(
                "gtol",
                -1,
                "float",
                "Precision of the projected gradient; negative: 0.01 sqrt(accuracy).",
                tolerance=True,
                float32=0.01 * _STEP**0.5,
            ),
            OptionSpec(
                "accuracy",
                0,
                "float",
                "Relative precision of the loss, for finite differences; 0: float64.",
                0,
                1,
                float32=_STEP32,
            ),
            OptionSpec("eta", -1, "float", "Severity of the line search; negative: 0.25.", high=1),
            OptionSpec("stepmx", 0, "float", "Largest step of the line search; 0: 10.", low=0),
            _limit("maxCGit", -1, "Products in an iteration; -1: max(1, min(50, N/2)), 0: none.", -_INT),
            OptionSpec("minfev", 0, "float", "Estimate of the smallest loss.", low=None, loss_power=1),
            OptionSpec("rescale", -1, "float", "Log10 factor that triggers rescaling of the loss; negative: 1.3."),
            OptionSpec("scale", None, "array", "Scale of each variable, shape (N,).", shape=("N",)),
            OptionSpec("offset", None, "array", "Offset of each variable, shape (N,).", shape=("N",)),
            OptionSpec("mesg_num", None, "int", "SciPy's message level; use disp.", -_INT, _INT),
            OptionSpec("eps", 1e-8, "step", _ABSOLUTE, float32=_STEP32, shape=("N",)),
            _DISP,
            *_DIFFERENCES[1:],
        ),
        family=_FIRST,
        gradient="required",
        bounds=True,
        nonfinite="wall",
        forced=MappingProxyType({"maxfun": 2**31 - 1}),
        lost_state="its scaling and preconditioner",
        cost="5 to 10 closure calls with gradients",
        calls=lambda n: 6.0,
        step="line search",
        wolfe=(1e-4, "eta"),
    ),
    MethodSpec(
        "SLSQP",
        "Sequential quadratic programming: bounds and constraints, up to a few hundred parameters.",
        _doc("slsqp"),
        option_rows(
            _maxiter(100, "Largest number of iterations."),
            _tolerance("ftol", 1e-6, "Precision goal for the loss."),
            OptionSpec("iprint", 1, "int", "Ignored; use disp.", high=_INT, ours=True),
            _DISP,
            *_DIFFERENCES,
        ),
        family=_CONSTRAINED,
        gradient="required",
        bounds=True,
        constraints=True,
        constraint_form="dict",
        nonfinite="wall",
        arrays=_squares(10.6),
        callback_at="trial",
        lost_state="its approximation of the Hessian",
        cost="1 to 4 closure calls with gradients, and N³ arithmetic",
        step="line search",
        wolfe=(0.1, np.inf),
    ),
    MethodSpec(
        "Newton-CG",
        "Newton steps solved by conjugate gradients and a line search; products only, no N×N array.",
        _doc("newtoncg"),
        option_rows(
            _maxiter(None, _PER_VARIABLE),
            _tolerance("xtol", 1e-5, "Stop when the average step is below this."),
            *_wolfe(0.9),
            OptionSpec(
                "eps",
                _STEP,
                "step",
                "Step when SciPy approximates the Hessian itself.",
                float32=_STEP32,
                shape=("N",),
                scipy_only=True,
            ),
            _DISP,
            _RETURN_ALL,
            *_WORKERS,
        ),
        family=_SECOND,
        gradient="required",
        curvature="hvp",
        nonfinite="wall",
        cost="1 or 2 closure calls with gradients, and up to N products",
        step="line search",
        wolfe=("c1", "c2"),
        engines=_BOTH,
    ),
    MethodSpec(
        "dogleg",
        "Trust region along a two-segment path; needs a positive definite Hessian, and shifts it if it is not.",
        _doc("dogleg"),
        option_rows(*_TRUST_REGION),
        family=_SECOND,
        gradient="required",
        curvature="dense",
        shift=True,
        radius="loop",
        radius_option="initial_trust_radius",
        arrays=_squares(5),
        cost="1 closure call with its gradient, N products for the Hessian and N³ arithmetic",
        step="trust region",
        engines=_BOTH,
        device_arrays=4,
    ),
    MethodSpec(
        "trust-ncg",
        "Trust region with Steihaug's conjugate gradients: large and non-convex problems, products only.",
        _doc("trustncg"),
        option_rows(*_TRUST_REGION),
        family=_SECOND,
        gradient="required",
        curvature="hvp",
        radius="loop",
        radius_option="initial_trust_radius",
        cost="1 closure call with its gradient, and up to N products",
        step="trust region",
        engines=_BOTH,
    ),
    MethodSpec(
        "trust-krylov",
        "Trust region in a Krylov subspace, solved nearly exactly; fewer iterations than trust-ncg, products only.",
        _doc("trustkrylov"),
        option_rows(
            *_TRUST_REGION, OptionSpec("inexact", True, "bool", "Solve the subproblem inexactly, to fewer products.")
        ),
        family=_SECOND,
        gradient="required",
        curvature="hvp",
        radius="loop",
        radius_option="initial_trust_radius",
        cost="1 closure call with its gradient, and up to N products",
        step="trust region",
        engines=_BOTH,
    ),
    MethodSpec(
        "trust-exact",
        "Trust region with a factorised Hessian: fewest iterations, up to about a thousand parameters.",
        _doc("trustexact"),
        option_rows(
            *_TRUST_REGION,
            _limit(
                "subproblem_maxiter",
                None,
                "Largest number of iterations in a subproblem (SciPy ≥ 1.17); SciPy fails with 1.",
                2,
            ),
        ),
        family=_SECOND,
        gradient="required",
        curvature="dense",
        radius="loop",
        radius_option="initial_trust_radius",
        arrays=_squares(6),
        cost="1 closure call with its gradient, N products for the Hessian and N³ arithmetic",
        step="trust region",
        engines=_BOTH,
        device_arrays=4,
    ),
    MethodSpec(
        "trust-constr",
        "Trust-region interior point: bounds and any constraints at scale, products only.",
        _doc("trustconstr"),
        option_rows(
            _maxiter(1000, "Largest number of iterations."),
            _tolerance("xtol", 1e-8, "Stop when the trust radius is below this."),
            _tolerance("gtol", 1e-8, "Stop when the Lagrangian's gradient is below this everywhere."),
            _tolerance("barrier_tol", 1e-8, "Stop when the barrier parameter is below this (inequalities)."),
            OptionSpec("initial_tr_radius", 1.0, "float", "Trust radius at the start.", low=1e-12, high=1e100),
            OptionSpec("initial_constr_penalty", 1.0, "float", "Constraint penalty at the start.", low=0, high=1e100),
            OptionSpec("initial_barrier_parameter", 0.1, "float", "Barrier parameter at the start.", low=0, high=1e100),
            OptionSpec("initial_barrier_tolerance", 0.1, "float", "Tolerance of the first barrier problem.", low=0),
            OptionSpec("sparse_jacobian", None, "bool", "Represent constraint Jacobians as sparse matrices."),
            OptionSpec(
                "factorization_method",
                None,
                "choice",
                "How constraint Jacobians are factorised.",
                choices=(None, "NormalEquation", "AugmentedSystem", "QRFactorization", "SVDFactorization"),
            ),
            OptionSpec("verbose", 0, "int", "SciPy's report: 0 none, 1 at the end, 2 and 3 during the run.", 0, 3),
            _DISP,
            *_DIFFERENCES[1:],
        ),
        family=_CONSTRAINED,
        gradient="required",
        curvature="hvp",
        bounds=True,
        constraints=True,
        radius="state",
        zero=ITERATIONS,
        radius_option="initial_tr_radius",
        first_callback_is_start=True,
        counted_at_start=1,
        lost_state="its penalty and barrier parameters",
        cost="1 closure call with gradient, products, and a factorisation of the constraints",
        step="trust region",
    ),
    MethodSpec(
        "COBYLA",
        "Linear models over a simplex; constraints without gradients.",
        _doc("cobyla"),
        option_rows(
            _maxiter(1000, "Largest number of closure calls; COBYLA counts these."),
            _tolerance("tol", 1e-4, "Smallest trust region: the precision of x."),
            OptionSpec(
                "rhobeg", 1.0, "float", "Trust region at the start: reasonable initial changes of x.", low=1e-12
            ),
            OptionSpec("catol", None, "float", "Allowed constraint violation.", low=0),
            OptionSpec(
                "f_target", -np.inf, "float", "Stop when the loss is below this (SciPy 1.16 or newer).", loss_power=1
            ),
            _DISP,
        ),
        family=_GRADIENT_FREE,
        bounds=True,
        constraints=True,
        constraint_form="inequalities",
        arrays=_squares(14),
        lost_state="its simplex",
        cost="1 or 2 closure calls, after N+1 for the first model; N² arithmetic",
        maxiter_counts="closure calls",
        calls=lambda n: n + 2.0,
    ),
    MethodSpec(
        "COBYQA",
        "Quadratic models in a trust region: usually the fewest closure calls without gradients; constraints.",
        _doc("cobyqa"),
        option_rows(
            _maxiter(None, "Largest number of iterations; default 1000·N.", low=1),
            _limit("maxfev", None, "Largest number of closure calls; default 500·N."),
            _tolerance("final_tr_radius", 1e-6, "Stop when the trust region is smaller than this."),
            OptionSpec("initial_tr_radius", 1.0, "float", "Trust region at the start.", low=1e-12),
            OptionSpec("f_target", -np.inf, "float", "Stop when the loss is below this.", loss_power=1),
            OptionSpec("feasibility_tol", 1e-8, "float", "Allowed constraint violation.", low=0),
            OptionSpec("scale", False, "bool", "Scale the variables by their bounds."),
            _DISP,
        ),
        family=_GRADIENT_FREE,
        bounds=True,
        constraints=True,
        arrays=_squares(65),
        callback_at="evaluation",
        lost_state="its quadratic model",
        cost="1 closure call, after 2·N+1 for the first model; N³ arithmetic",
        calls=lambda n: 2.0 * n + 1,
    ),
)

METHODS: Mapping[str, MethodSpec] = MappingProxyType({spec.name: spec for spec in _ALL})
"""The local methods, keyed by SciPy's spelling."""

CUSTOM = MethodSpec(
    "custom",
    "A callable, as in scipy.optimize.minimize(method=callable).",
    "https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.minimize.html",
    option_rows(),
    family=OWN,
    gradient="required",
    bounds=True,
    constraints=True,
    nonfinite="wall",
    custom=True,
    any_options=True,
)
"""The row of a user's `method=callable`. Products and Hessians are available to it."""

_own: dict[str, MethodSpec] = {}
OWN_METHODS: Mapping[str, MethodSpec] = MappingProxyType(_own)
"""The methods that a user has registered with `torchmin_nb.method`, in the order of their first registration."""


def put_own(spec: MethodSpec) -> None:
    """Add this row to OWN_METHODS; it replaces a row of the same name."""
    _own[spec.name] = spec


def take_own(name: str) -> MethodSpec:
    """Remove a row of OWN_METHODS and return it. Raises UnknownMethodError."""
    if name not in _own:
        raise UnknownMethodError(f"no method {name!r} is registered; registered are {', '.join(_own) or 'none'}")
    return _own.pop(name)


def own_rows(names: Iterable[str]) -> list[dict[str, Any]]:
    """The fields of those of these methods that a user has registered, for `put_rows` in another process."""
    return [_plain_fields(_own[name]) for name in dict.fromkeys(names) if name in _own]


def _plain_fields(row: MethodSpec) -> dict[str, Any]:
    """Without the defaults, which the other process has, and without mapping proxies, which no pickle takes."""
    values = {each.name: getattr(row, each.name) for each in fields(row) if getattr(row, each.name) != each.default}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def put_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """Register what `own_rows` returned."""
    for row in rows:
        put_own(MethodSpec(**row))


def _row(name: str) -> MethodSpec:
    return METHODS.get(name) or _own.get(name, CUSTOM)


def find_method(name: str) -> MethodSpec:
    """The row of a method, matched without regard to case. Raises UnknownMethodError, naming the known ones."""
    for spec in (*_ALL, *_own.values()):
        if spec.name.lower() == name.lower():
            return spec
    raise UnknownMethodError(f"method {name!r} is not known; choose one of {', '.join([*_own, *METHODS])}")
