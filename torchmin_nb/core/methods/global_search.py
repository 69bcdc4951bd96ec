"""GLOBAL_METHODS: one row for each global optimizer of SciPy.

Keywords, defaults and their meaning: https://docs.scipy.org/doc/scipy/reference/optimize.html#global-optimization
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from ..runtime.control import EXHAUSTED, UNCONVERGED, Ending
from ..signatures import shares_parameters
from .options import OptionSpec
from .row import MethodRow, option_rows

__all__ = ["GLOBAL_METHODS", "SHGO_OPTIONS", "GlobalSpec"]


@shares_parameters(MethodRow)
@dataclass(frozen=True, slots=True)
class GlobalSpec(MethodRow):
    """A row of GLOBAL_METHODS: what a global method needs and takes.

    The options are SciPy's keywords, and those that torchmin_nb adds (``ours``).

    Attributes
    ----------
    {shared}
    source : str
        The paper.
    stochastic : bool
        Whether it draws random numbers: ``rng``, or ``seed`` for SciPy's legacy generators.
    local : bool
        Whether it descends with a local method.
    variable_space_options : tuple of str
        Keywords whose values are in the search's own variables. They cannot be combined with scales or fixed entries.
    most : int
        Largest number of variables for which the search is useful.
    older : str
        Earlier name of the wrapper's ``search_args``.
    zero : Ending
        The ending that a status of 0 stands for if it is no success.
    descent : dict
        minimizer_args of the local method if the user passes none. Empty: SLSQP with constraints, L-BFGS-B with bounds,
        else BFGS.

    Examples
    --------
    >>> [name for name, row in GLOBAL_METHODS.items() if not row.stochastic]
    ['shgo', 'direct', 'brute']
    """

    family: str = field(default="global", kw_only=True)
    bounds: bool = field(default=True, kw_only=True)
    source: str = ""
    stochastic: bool = False
    local: bool = True
    variable_space_options: tuple[str, ...] = ()
    most: int = 1000
    older: str = ""
    zero: Ending = UNCONVERGED
    descent: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __reduce__(self) -> tuple[Callable[[str], GlobalSpec], tuple[str]]:
        """A row is copied and pickled by name."""
        return _row, (self.name,)

    @property
    def kwargs(self) -> Mapping[str, OptionSpec]:
        """The same as `options`."""
        return self.options

    @property
    def needs(self) -> str:
        """Its requirements, in words."""
        return ", ".join(["loss"] + ["finite bounds"] * self.bounds + ["a gradient for local searches"] * self.local)

    def local_arguments(self, minimizer_args: Mapping[str, Any]) -> Mapping[str, Any]:
        """minimizer_args of the local method, completed with SciPy's own.

        Parameters
        ----------
        minimizer_args : dict
            What the user has passed.

        Returns
        -------
        dict
            The same, with the default method; the defaults of the search if the user has passed nothing.
        """
        if not minimizer_args:
            return self.descent
        named = {name: self.descent[name] for name in ("method",) if name in self.descent}
        return {
            **named,
            **{name: value for name, value in minimizer_args.items() if name != "method" or value is not None},
        }


def _doc(name: str) -> str:
    return f"https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.{name}.html"


_BOUNDS = OptionSpec(
    "bounds",
    None,
    "any",
    "scipy.optimize.Bounds, one (low, high) pair for all variables, or one for each.",
)
_RANDOM = (
    OptionSpec("rng", None, "rng", "Seed or numpy.random.Generator; fresh randomness if None."),
    OptionSpec("seed", None, "seed", "The same for SciPy's legacy generators; pass rng or seed, not both."),
)
_INT = 2**31 - 1
_START = OptionSpec("x0", "start", "any", "'start': the parameters' values; None: SciPy's choice; or an array (n,).")
_DISP = OptionSpec("disp", False, "bool", "Print a summary when the run ends.", ours=True)
_TINY = 1e-300


def _callback(signature: str) -> OptionSpec:
    return OptionSpec("callback", None, "callable", f"SciPy's own callback, {signature}.")


_ALL = (
    GlobalSpec(
        "basinhopping",
        "Hops from one local minimum to the next: random steps, each followed by a local method, kept by Metropolis.",
        _doc("basinhopping"),
        option_rows(
            OptionSpec("niter", 100, "int", "Number of hops.", low=0, high=_INT),
            OptionSpec("T", 1.0, "float", "Temperature: about the difference in loss between local minima.", low=0),
            OptionSpec("stepsize", 0.5, "float", "Largest change of a variable in the first hops.", low=0, high=1e100),
            OptionSpec("take_step", None, "callable", "A function for the hop, x -> x."),
            OptionSpec("accept_test", None, "callable", "A further test besides Metropolis's, f(f_new, x_new, ...)."),
            _callback("callback(x, f, accept); True stops"),
            OptionSpec("interval", 50, "int", "Hops after which the step size is adapted.", low=1, high=_INT),
            _DISP,
            OptionSpec(
                "niter_success",
                None,
                "int",
                "Stop after this many hops without a change of the best loss.",
                1,
                unlimited=_INT,
            ),
            *_RANDOM,
            OptionSpec("target_accept_rate", 0.5, "float", "Rate of accepted hops to aim at.", low=1e-9, high=1 - 1e-9),
            OptionSpec(
                "stepwise_factor", 0.9, "float", "Factor of one change of the step size.", low=1e-9, high=1 - 1e-9
            ),
        ),
        bounds=False,
        stochastic=True,
        constraints=True,
        variable_space_options=("take_step", "accept_test", "callback"),
        most=1000,
        cost="a whole local minimisation from a random step",
        source="Wales & Doye, J. Phys. Chem. A 101, 5111 (1997)",
        older="basinhopping_kwargs",
    ),
    GlobalSpec(
        "dual_annealing",
        "Generalised simulated annealing with long jumps, and a local search wherever it improves.",
        _doc("dual_annealing"),
        option_rows(
            _BOUNDS,
            OptionSpec("maxiter", 1000, "int", "Number of temperature steps, 2·N visits each.", 1, unlimited=_INT),
            OptionSpec("initial_temp", 5230.0, "float", "Temperature at the start; higher reaches farther.", 0.01, 5e4),
            OptionSpec(
                "restart_temp_ratio",
                2e-5,
                "float",
                "Restart at this fraction of the temperature.",
                _TINY,
                0.999,
            ),
            OptionSpec(
                "visit", 2.62, "float", "Tail of the jumps' distribution; higher is heavier.", low=1.0001, high=3
            ),
            OptionSpec("accept", -5.0, "float", "Lower accepts fewer uphill visits.", low=-1e4, high=-5),
            OptionSpec("maxfun", 1e7, "int", "Soft limit of closure calls.", low=1, unlimited=np.inf),
            *_RANDOM,
            OptionSpec("no_local_search", False, "bool", "Classical simulated annealing, without local searches."),
            _callback("callback(x, f, context) at every new minimum; True stops"),
            _START,
        ),
        stochastic=True,
        variable_space_options=("callback",),
        most=100,
        cost="2·N closure calls, and local searches where it improves",
        source="Xiang, Sun, Fan & Gong, Phys. Lett. A 233, 216 (1997)",
        older="da_kwargs",
        zero=EXHAUSTED,
    ),
    GlobalSpec(
        "shgo",
        "Samples the box, finds all candidate basins by homology, and descends each: lists the local minima.",
        _doc("shgo"),
        option_rows(
            _BOUNDS,
            OptionSpec("constraints", None, "any", "Constraints, as minimizer_args takes them."),
            OptionSpec(
                "n",
                100,
                "int",
                "Sampling points in an iteration; simplicial: 2^N + 1.",
                1,
                _INT,
                none=True,
            ),
            OptionSpec("iters", 1, "int", "Number of iterations of sampling and descents.", 1, _INT, none=True),
            _callback("callback(x), in each iteration of the local method; StopIteration ends that descent"),
            OptionSpec(
                "options", None, "dict", "SciPy's stopping rules: maxiter, maxfev, maxev, maxtime, f_min, minhgrd ..."
            ),
            OptionSpec(
                "sampling_method",
                "simplicial",
                "choice or callable",
                "How points are chosen.",
                choices=("simplicial", "halton", "sobol"),
            ),
        ),
        constraints=True,
        variable_space_options=("callback", "sampling_method"),
        most=8,
        cost="about 100 closure calls and a descent from each basin; 2^N + 1 at least",
        descent=MappingProxyType({"method": "SLSQP", "options": {"ftol": 1e-12}}),
        source="Endres, Sandrock & Focke, J. Glob. Optim. 72, 181 (2018)",
        older="shgo_kwargs",
    ),
    GlobalSpec(
        "differential_evolution",
        "A population that mutates and recombines: robust on rough losses; whole generations at once under vmap.",
        _doc("differential_evolution"),
        option_rows(
            _BOUNDS,
            OptionSpec(
                "strategy",
                "best1bin",
                "choice or callable",
                "How trial vectors are made.",
                choices=tuple(
                    f"{name}{kind}"
                    for kind in ("bin", "exp")
                    for name in ("best1", "randtobest1", "currenttobest1", "best2", "rand2", "rand1")
                ),
            ),
            OptionSpec("maxiter", 1000, "int", "Largest number of generations.", low=0, unlimited=_INT),
            OptionSpec("popsize", 15, "int", "The population has this times N members.", low=1, high=10**6),
            OptionSpec("tol", 0.01, "float", "Stop when the losses of the population agree to this.", low=0),
            OptionSpec(
                "mutation", (0.5, 1), "weight", "Differential weight in [0, 2), or a (low, high) pair to dither."
            ),
            OptionSpec("recombination", 0.7, "float", "Probability of crossover.", low=0, high=1),
            *_RANDOM,
            _callback("callback(intermediate_result) or callback(x, convergence); True stops"),
            _DISP,
            OptionSpec(
                "polish",
                True,
                "any",
                "Descend from the best point at the end: True, False, a method name, minimizer_args or a callable.",
            ),
            OptionSpec(
                "init",
                "latinhypercube",
                "choice or array",
                "How the first population is drawn, or its points (S, N).",
                choices=("latinhypercube", "sobol", "halton", "random"),
            ),
            OptionSpec("atol", 0, "float", "Absolute tolerance of the same kind as tol.", low=0),
            OptionSpec(
                "updating",
                None,
                "choice",
                "When the best member is replaced; deferred where vectorized, else immediate.",
                choices=("immediate", "deferred"),
            ),
            OptionSpec("constraints", (), "any", "Constraints, as minimizer_args takes them."),
            _START,
            OptionSpec("integrality", None, "any", "Which variables are integers, (n,) of bool."),
            OptionSpec(
                "vectorized",
                None,
                "bool",
                "Evaluate a generation in one call under vmap; None: if the loss is a function and updating allows it.",
            ),
        ),
        stochastic=True,
        constraints=True,
        variable_space_options=("callback", "init", "integrality", "strategy"),
        most=50,
        cost="15·N closure calls; in one call under vmap where possible",
        source="Storn & Price, J. Glob. Optim. 11, 341 (1997)",
        older="de_kwargs",
    ),
    GlobalSpec(
        "direct",
        "Divides the box into ever smaller rectangles: deterministic, without gradients, for a few variables.",
        _doc("direct"),
        option_rows(
            _BOUNDS,
            OptionSpec("eps", 1e-4, "float", "Required improvement of a rectangle; larger: more global.", low=0),
            OptionSpec("maxfun", None, "int", "Largest number of closure calls; default 1000·N.", 1, 10**7),
            OptionSpec("maxiter", 1000, "int", "Largest number of iterations.", low=0, high=10**8, unlimited=10**8),
            OptionSpec("locally_biased", True, "bool", "The variant for few local minima."),
            OptionSpec("f_min", -np.inf, "float", "The loss at the global minimum, where it is known."),
            OptionSpec("f_min_rtol", 1e-4, "float", "Stop when f_min is reached to this.", low=0, high=1),
            OptionSpec("vol_tol", 1e-16, "float", "Stop when the best rectangle's volume is below.", low=0, high=1),
            OptionSpec("len_tol", 1e-6, "float", "Stop when the best rectangle's size is below.", low=0, high=1),
            _callback("callback(x)"),
        ),
        local=False,
        variable_space_options=("callback",),
        most=15,
        cost="a few closure calls for each rectangle that is divided",
        source="Jones, Perttunen & Stuckman, J. Optim. Theory Appl. 79, 157 (1993)",
        older="direct_kwargs",
    ),
    GlobalSpec(
        "brute",
        "Evaluates a grid, whole chunks at once under vmap, and descends from the best point: up to three variables.",
        _doc("brute"),
        option_rows(
            OptionSpec(
                "ranges", None, "any", "Like bounds; an entry may also be (low, high, step) or a slice, as np.mgrid."
            ),
            OptionSpec("bounds", None, "any", "The same as ranges.", ours=True),
            OptionSpec("Ns", 20, "int", "Points along an axis without a step.", low=1, high=_INT),
            OptionSpec(
                "finish",
                True,
                "any",
                "Descend from the best: True, None, a method name, minimizer_args or a callable.",
            ),
            _DISP,
        ),
        variable_space_options=("ranges",),
        most=4,
        cost="20^N closure calls in all, in chunks, then a descent",
        source="exhaustive search",
        older="brute_kwargs",
    ),
)

SHGO_OPTIONS = option_rows(
    OptionSpec("maxfev", None, "int", "Largest number of samples in the feasible domain.", low=1, unlimited=np.inf),
    OptionSpec("maxev", None, "int", "Largest number of samples.", low=1, unlimited=np.inf),
    OptionSpec("maxiter", None, "int", "Largest number of iterations.", low=1, unlimited=np.inf),
    OptionSpec("maxtime", None, "float", "Seconds; see max_seconds.", low=0),
    OptionSpec("f_min", None, "float", "The loss at the global minimum, where it is known."),
    OptionSpec("f_tol", 1e-4, "float", "Stop when f_min is reached to this.", low=0),
    OptionSpec("minhgrd", None, "int", "Smallest growth of the homology group's rank.", low=0, high=_INT),
    OptionSpec("symmetry", False, "bool", "The loss is the same for permuted variables."),
    OptionSpec("minimize_every_iter", True, "bool", "Descend in every iteration."),
    OptionSpec("local_iter", False, "int", "This many of the best candidates in an iteration; False: all.", 0, _INT),
    OptionSpec("infty_constraints", True, "bool", "Infeasible samples count as infinite."),
    OptionSpec("disp", False, "bool", "Print a summary when the run ends.", ours=True),
    OptionSpec("jac", None, "any", "As in minimizer_args.", ours=True),
    OptionSpec("hess", None, "any", "As in minimizer_args.", ours=True),
    OptionSpec("hessp", None, "any", "As in minimizer_args.", ours=True),
    OptionSpec("ftol", None, "float", "As in the options of minimizer_args.", low=0, ours=True),
)
"""The `options` of shgo. Options of the local method are passed on to it."""

GLOBAL_METHODS: Mapping[str, GlobalSpec] = MappingProxyType({spec.name: spec for spec in _ALL})
"""The global methods, keyed by the name of SciPy's function."""


def _row(name: str) -> GlobalSpec:
    return GLOBAL_METHODS[name]
