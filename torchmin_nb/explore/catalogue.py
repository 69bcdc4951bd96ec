"""All methods of all wrappers in one table: needs, cost, accepted arguments, and when to use each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.methods.global_search import GLOBAL_METHODS, GlobalSpec
from ..core.methods.least_squares import LEAST_SQUARES_METHODS, LeastSquaresSpec
from ..core.methods.local import METHODS, OWN_METHODS, MethodSpec
from ..core.methods.options import OptionSpec
from ..core.optimizers.device_run import choose_engine, read_engine, scipy_only_option
from ..errors import UnknownMethodError

__all__ = ["GLOBAL", "LEAST_SQUARES", "LOCAL", "Entry", "catalogue", "entry", "groups"]

LOCAL, LEAST_SQUARES, GLOBAL = "local", "least squares", "global"
"""The kinds of methods; each kind has one or several wrappers."""

_NOT_IN_A_FORM = ("bounds", "constraints", "ranges", "callback", "disp", "iprint", "verbose", "workers")
"""Options that are set elsewhere, or are useless in a watched run."""


@dataclass(frozen=True)
class Entry:
    """A method of any wrapper, run by one engine: a row of the catalogue.

    Attributes
    ----------
    name : str
        Name of the method.
    kind : {"local", "least squares", "global"}
        The kind of its wrapper.
    group : str
        The heading under which it is listed.
    needs : str
        What it needs, in words.
    cost : str
        What an iteration costs, in words.
    when : str
        When to use it, in a sentence.
    reference : str
        The page or paper that describes it.
    options : dict of str to OptionSpec
        The options that a form shows, by name.
    spec : MethodSpec, LeastSquaresSpec or GlobalSpec
        Its row in METHODS, LEAST_SQUARES_METHODS or GLOBAL_METHODS, or of a method of your own.
    bounds : bool
        Whether it takes bounds.
    constraints : bool
        Whether it takes constraints.
    needs_bounds : bool
        Whether it needs finite bounds on every parameter.
    random : bool
        Whether it draws random numbers.
    overdetermined : bool
        Whether it needs as many residuals as parameters.
    gradient : bool
        Whether it needs a gradient.
    curvature : {"none", "hvp", "dense"}
        Second derivatives that it needs.
    most : int or None
        Largest number of parameters for which it is useful; None for no limit.
    limit : str or None
        The option that bounds iterations.
    calls : callable
        ``calls(n)``: closure calls of the first iteration.
    arrays : callable
        ``arrays(m, n)``: number of float64 entries for m residuals and n parameters, beyond a multiple of n.
    engines : tuple of str
        What can run it, its default first.
    engine : {"scipy", "torch"}
        The engine that this row is for.

    Examples
    --------
    >>> row = entry("trust-ncg")
    >>> row.kind, row.needs, row.engines
    ('local', 'gradient, Hessian-vector products', ('scipy', 'torch'))
    """

    name: str
    kind: str
    group: str
    needs: str
    cost: str
    when: str
    reference: str
    options: Mapping[str, OptionSpec]
    spec: MethodSpec | LeastSquaresSpec | GlobalSpec
    bounds: bool
    constraints: bool
    needs_bounds: bool = False
    random: bool = False
    overdetermined: bool = False
    gradient: bool = True
    curvature: str = "none"
    most: int | None = None
    limit: str | None = None
    calls: Callable[[int], float] = field(default=lambda n: 2.0)
    arrays: Callable[[int, int], float] = field(default=lambda m, n: 0.0)
    engines: tuple[str, ...] = ("scipy",)
    engine: str = "scipy"

    @property
    def label(self) -> str:
        """The name, with the engine if it is not the default: 'BFGS (torch)'."""
        return self.name if self.engine == self.engines[0] else f"{self.name} ({self.engine})"

    def on(self, engine: str | None, options: Mapping[str, Any] | None = None) -> Entry:
        """The row of this method for another engine, with its options and arrays.

        Parameters
        ----------
        engine : {"scipy", "torch", "auto"} or None
            The engine. None: the default.
        options : dict or None, optional
            The options that are set. With "auto", an option that only SciPy has chooses SciPy.

        Returns
        -------
        Entry
            The row.

        Raises
        ------
        ArgumentError
            If the engine does not have this method. The message lists those that it has.
        """
        against = scipy_only_option(self.spec, options or {}) if engine == "auto" else ""
        chosen = choose_engine(self.spec, read_engine(engine), against, (each.spec for each in catalogue().values()))
        return self if chosen == self.engine else _BY_ENGINE[self.kind](self.spec, chosen)

    def bytes(self, n: int, m: int = 0) -> float:
        """Memory that the method needs: its arrays and ten vectors.

        Parameters
        ----------
        n : int
            Number of parameters.
        m : int, optional
            Number of residuals. Default 0.

        Returns
        -------
        float
            Bytes.
        """
        return 8.0 * (self.arrays(m, n) + 10 * n)


def catalogue() -> Mapping[str, Entry]:
    """Every method by name, in the order of a menu. Methods of your own are among them.

    Returns
    -------
    dict of str to Entry
        The rows.

    Examples
    --------
    >>> [name for name, row in catalogue().items() if row.constraints and row.kind == "local"]
    ['SLSQP', 'trust-constr', 'COBYLA', 'COBYQA']
    """
    entries = [
        *(_local(spec) for spec in METHODS.values()),
        *(_least_squares(spec) for spec in LEAST_SQUARES_METHODS.values()),
        *(_global(spec) for spec in GLOBAL_METHODS.values()),
        *(_local(spec) for spec in OWN_METHODS.values()),
    ]
    return {entry.name: entry for entry in entries}


def groups() -> Mapping[str, tuple[Entry, ...]]:
    """The methods under their headings.

    Returns
    -------
    dict of str to tuple of Entry
        The rows by heading.

    Examples
    --------
    >>> [row.name for row in groups()["least squares"]]
    ['trf', 'dogbox', 'lm', 'gauss-newton']
    """
    by_group: dict[str, tuple[Entry, ...]] = {}
    for each in catalogue().values():
        by_group[each.group] = (*by_group.get(each.group, ()), each)
    return by_group


def entry(name: str) -> Entry:
    """The row of a method.

    Parameters
    ----------
    name : str
        Name of the method; upper and lower case do not matter.

    Returns
    -------
    Entry
        The row, for its default engine.

    Raises
    ------
    UnknownMethodError
        If there is no such method. The message lists the known ones.

    Examples
    --------
    >>> entry("l-bfgs-b").name
    'L-BFGS-B'
    """
    known = catalogue()
    for each in known.values():
        if each.name.lower() == name.lower():
            return each
    raise UnknownMethodError(f"method {name!r} is not known; choose one of {', '.join(known)}")


def _shown(options: Mapping[str, OptionSpec], engine: str = "scipy") -> dict[str, OptionSpec]:
    return {
        name: row
        for name, row in options.items()
        if name not in _NOT_IN_A_FORM and row.kind != "callable" and not (engine == "torch" and row.scipy_only)
    }


def _local(spec: MethodSpec, engine: str | None = None) -> Entry:
    engine = engine or spec.engines[0]
    arrays = {"scipy": spec.arrays, "torch": lambda n: spec.device_arrays * n * n}[engine]
    return _entry(
        LOCAL,
        spec,
        engine,
        bounds=spec.bounds,
        gradient=spec.gradient != "none",
        curvature=spec.curvature,
        limit="maxiter" if "maxiter" in spec.options and spec.maxiter_counts == "iterations" else None,
        calls=spec.calls,
        arrays=lambda m, n: arrays(n),
    )


def _least_squares(spec: LeastSquaresSpec, engine: str | None = None) -> Entry:
    engine = engine or spec.engines[0]
    return _entry(
        LEAST_SQUARES,
        spec,
        engine,
        bounds=spec.bounds,
        overdetermined=spec.overdetermined and engine == "scipy",  # for MINPACK; the solvers on the device use damping
        # An operator needs no array: least_squares chooses it if the dense Jacobian does not fit.
        arrays=(lambda m, n: 0.0) if spec.operator else spec.arrays,
    )


def _global(spec: GlobalSpec) -> Entry:
    return _entry(
        GLOBAL,
        spec,
        "scipy",
        bounds=True,
        needs_bounds=spec.bounds,
        random=spec.stochastic,
        gradient=False,
        most=spec.most,
        limit="maxiter" if "maxiter" in spec.options else None,
    )


def _entry(kind: str, spec: MethodSpec | LeastSquaresSpec | GlobalSpec, engine: str, **columns: Any) -> Entry:
    """The columns of all tables, and those of this kind."""
    return Entry(
        spec.name,
        kind,
        spec.family,
        spec.needs,
        spec.cost or "as you wrote it",
        spec.summary,
        spec.reference,
        _shown(spec.options, engine),
        spec,
        constraints=spec.constraints,
        engines=spec.engines,
        engine=engine,
        **columns,
    )


_BY_ENGINE: Mapping[str, Callable[[Any, str], Entry]] = {LOCAL: _local, LEAST_SQUARES: _least_squares}
"""The functions that make the row of another engine, for kinds with several engines."""
