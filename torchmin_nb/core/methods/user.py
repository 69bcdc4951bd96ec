"""Methods written by users, as rows next to SciPy's: `@method("my-newton")` on a function or a generator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import wraps
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from ...errors import ArgumentError, ArgumentTypeError
from ..signatures import shows_keywords
from .local import METHODS, OWN, MethodSpec, put_own, take_own
from .options import OptionSpec
from .row import option_rows

__all__ = ["NEEDS", "method", "unregister"]

Solver = TypeVar("Solver", bound=Callable[..., Any])
Need = Literal["loss", "gradient", "products", "hessian"]
NEEDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "loss": ("none", "none"),
        "gradient": ("required", "none"),
        "products": ("required", "hvp"),
        "hessian": ("required", "dense"),
    }
)
"""The values of `needs`, with the columns of a row that they set: gradient, curvature."""

_PASSED = ("fun", "x0", "args", "jac", "grad", "hess", "hessp", "bounds", "constraints", "callback")
_IMPLIED = (("hess", "hessian"), ("hessp", "products"), ("grad", "gradient"), ("jac", "gradient"))
_EXAMPLE = "def my_method(fun, x0, grad, *, rate=0.1): ... yield x"
_DOC = "https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.minimize.html"
_KINDS = {bool: "bool", int: "int", float: "float"}


@shows_keywords()
def method(
    name: str, *, needs: Need | None = None, bounds: bool = False, constraints: bool = False, summary: str = ""
) -> Callable[[Solver], Solver]:
    """Register a method of your own under a name, for MinimizeWrapper, minimize and the explorer.

    On a class, it registers a solver on the device: `torchmin_nb.solvers` has an example. On a function, SciPy runs it.
    A name registered before is replaced, so that a cell may be run again.

    Parameters
    ----------
    name : str
        Name of the method, not one of SciPy's.
    needs : {"loss", "gradient", "products", "hessian"} or None, optional
        What the method needs; "products" are Hessian-vector products. Default: what its parameters imply.
    bounds : bool, optional
        Whether it takes bounds. A parameter of that name implies it. Default False.
    constraints : bool, optional
        Whether it takes constraints. A parameter of that name implies it. Default False.
    summary : str, optional
        When to use it, in a line. Default: the first line of its docstring.

    Returns
    -------
    callable
        A decorator, which returns the function or class unchanged.

    Raises
    ------
    ArgumentError
        If SciPy has a method of this name, if `needs` is not known, or if the function cannot be called.
    ArgumentTypeError
        If the name is no string, or what is decorated is neither a function nor a class.

    Notes
    -----
    The function is one of two kinds. A generator ``f(fun, x0, grad, hessp, ...)`` yields one iterate x, shape (n,), in
    each iteration. It names those of fun, grad, hess, hessp, bounds and constraints that it wants. If it returns a
    string, that is the message of the result. The other kind is a custom method as in SciPy, ``f(fun, x0, args,
    **options)``, which returns an ``OptimizeResult`` and calls ``options["callback"]`` with a copy of x once in each
    iteration.

    fun(x) is the loss, grad(x) has shape (n,), hess(x) has shape (n, n), hessp(x, v) has shape (n,), all in float64.
    The other parameters become options of the method, and must have defaults.

    References
    ----------
    "Custom minimizers" in https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.minimize.html

    Examples
    --------
    >>> @method("steps-downhill")
    ... def steps_downhill(fun, x0, grad, *, rate=0.1):
    ...     x = x0
    ...     while np.linalg.norm(grad(x)) > 1e-6:
    ...         x = x - rate * grad(x)
    ...         yield x
    >>> minimize(lambda x: ((x - 3) ** 2).sum(), [0.0, 0.0], "steps-downhill").x.round(decimals=3)
    tensor([3., 3.], dtype=torch.float64)
    >>> unregister("steps-downhill")
    """
    _require_name(name)
    if needs is not None and needs not in NEEDS:
        raise ArgumentError(f"needs={needs!r} is not known; choose one of {', '.join(NEEDS)}")

    def register(function: Solver) -> Solver:
        if inspect.isclass(function):
            put_own(_device_row(name, function, NEEDS[needs or "gradient"], summary, bounds=bounds))
            return function
        shape = _Shape.of(name, function)
        gradient, curvature = NEEDS[needs or shape.implied]
        put_own(
            MethodSpec(
                name,
                summary or (inspect.getdoc(function) or "A method written by the user.").split("\n")[0],
                _DOC,
                shape.options,
                family=OWN,
                gradient=gradient,
                curvature=curvature,
                bounds=bounds or "bounds" in shape.names,
                constraints=constraints or "constraints" in shape.names,
                nonfinite="inf" if gradient == "none" else "wall",
                arrays=(lambda n: 3.0 * n * n) if curvature == "dense" else lambda n: 0.0,
                custom=True,
                any_options=shape.open,
                solver=_of_generator(shape, function) if shape.generator else _of_callable(shape, function),
            )
        )
        return function

    return register


def unregister(name: str) -> None:
    """Remove a method of your own that `method` has registered.

    Parameters
    ----------
    name : str
        The name under which it was registered.

    Raises
    ------
    UnknownMethodError
        If no method is registered under this name. The message lists the registered ones.

    Examples
    --------
    >>> @method("one-step")
    ... def one_step(fun, x0, grad):
    ...     yield x0 - grad(x0)
    >>> minimize(lambda x: 0.5 * (x**2).sum(), [3.0], "one-step").x
    tensor([0.], dtype=torch.float64)
    >>> unregister("one-step")
    """
    take_own(name)


def _device_row(name: str, solver: type, needs: tuple[str, str], summary: str, *, bounds: bool) -> MethodSpec:
    """The row of a class with init, step and terminate. Raises ArgumentError if one of them is missing."""
    missing = [part for part in ("init", "step", "terminate") if not callable(getattr(solver, part, None))]
    if missing or needs[0] == "none":
        raise ArgumentError(
            f"the class {solver.__name__} of {name!r} lacks {', '.join(missing) or 'a gradient'}; a solver on the "
            f"device has init, step and terminate, and needs 'gradient', 'products' or 'hessian': see "
            f"torchmin_nb.solvers"
        )
    parameters = list(inspect.signature(solver).parameters.values())
    rows = [_option(name, found) for found in parameters if _is_option(found)]
    if "maxiter" not in [row.name for row in rows]:
        rows.append(OptionSpec("maxiter", None, "int", "Largest number of iterations; default none.", 1, ours=True))
    rows.append(OptionSpec("disp", False, "bool", "Print a summary when the run ends.", ours=True))
    return MethodSpec(
        name,
        summary or (inspect.getdoc(solver) or "A method written by the user.").split("\n")[0],
        _DOC,
        option_rows(*rows),
        family="your own",
        gradient=needs[0],
        curvature=needs[1],
        bounds=bounds,
        nonfinite="wall",
        device_arrays=3.0 if needs[1] == "dense" else 0.0,
        solver=solver,
        engines=("torch",),
    )


def _require_name(name: Any) -> None:
    if not isinstance(name, str):
        raise ArgumentTypeError(
            f'method takes a name, got {name!r}; write @method("my-method") above {_EXAMPLE.split(":")[0]}'
        )
    if not name.strip() or name.lower() in {known.lower() for known in METHODS}:
        why = "is one of SciPy's" if name.strip() else "is empty"
        raise ArgumentError(f"the method name {name!r} {why}; choose another, such as 'my-method'")


@dataclass(frozen=True)
class _Shape:
    """The signature of a method: its parameters, its options, and whether it accepts other options."""

    name: str
    names: tuple[str, ...]
    options: Mapping[str, OptionSpec]
    open: bool
    generator: bool

    @classmethod
    def of(cls, name: str, function: Any) -> _Shape:
        if not callable(function):
            raise ArgumentTypeError(
                f"@method({name!r}) goes above a function or a class, got {function!r}; e.g. {_EXAMPLE}"
            )
        parameters = inspect.signature(function).parameters
        first = [parameter.name for parameter in parameters.values()][:2]
        if first != ["fun", "x0"]:
            raise ArgumentError(f"{name!r} must take fun and x0 first, got ({', '.join(first)}); e.g. {_EXAMPLE}")
        rows = [_option(name, parameter) for parameter in parameters.values() if _is_option(parameter)]
        if "maxiter" not in parameters:
            rows.append(OptionSpec("maxiter", None, "int", "Largest number of iterations; default none.", 1, ours=True))
        rows.append(OptionSpec("disp", False, "bool", "Print a summary when the run ends.", ours=True))
        return cls(
            name,
            tuple(parameters),
            MappingProxyType({row.name: row for row in rows}),
            any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()),
            inspect.isgeneratorfunction(function),
        )

    @property
    def implied(self) -> str:
        """The needs that its parameters show; a SciPy-style method with `**options` is passed a gradient."""
        named = next((need for parameter, need in _IMPLIED if parameter in self.names), None)
        return named or ("gradient" if self.open and not self.generator else "loss")

    def accepted(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that the function accepts; an unknown option of the user is an error."""
        for option in options:
            if option not in _PASSED and option not in self.names and not self.open:
                raise ArgumentError(f"{self.name} has no option {option!r}; give it a parameter {option}=...")
        return {key: value for key, value in options.items() if key in self.names or self.open}


def _is_option(parameter: inspect.Parameter) -> bool:
    variable = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    return not variable and parameter.name not in _PASSED


def _option(name: str, parameter: inspect.Parameter) -> OptionSpec:
    if parameter.default is parameter.empty:
        raise ArgumentError(
            f"the option {parameter.name!r} of {name!r} has no default; write {parameter.name}=... in its signature "
            f"(torchmin_nb itself passes {', '.join(_PASSED)})"
        )
    kind = _KINDS.get(type(parameter.default), "any")
    return OptionSpec(parameter.name, parameter.default, kind, f"An option of {name}.")


def _of_callable(shape: _Shape, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def solver(fun: Any, x0: NDArray[np.float64], args: Any = (), **options: Any) -> Any:
        return function(fun, x0, **shape.accepted({"args": args, "grad": options.get("jac"), **options}))

    return solver


def _of_generator(shape: _Shape, function: Callable[..., Generator[Any, None, Any]]) -> Callable[..., Any]:
    @wraps(function)
    def solver(fun: Any, x0: NDArray[np.float64], args: Any = (), *, callback: Any = None, **options: Any) -> Any:
        # a generator may use SciPy's name jac or the name grad
        wanted = shape.accepted({"grad": options.get("jac"), **options})
        iterates = function(fun, x0.copy(), **wanted)
        x, count = x0, 0
        while True:
            try:
                x = _iterate(shape.name, next(iterates), x0.size)
            except StopIteration as stop:
                message = stop.value if isinstance(stop.value, str) else f"{shape.name} has ended."
                return OptimizeResult(x=x, fun=fun(x), nit=count, success=True, status=0, message=message)
            count += 1
            fun(x)  # the iterate is reported with its loss; with its gradient too, the next step costs nothing
            if callback is not None:
                callback(x)

    return solver


def _iterate(name: str, x: Any, n: int) -> NDArray[np.float64]:
    """A copy of the yielded iterate, (n,). Raises ArgumentError or ArgumentTypeError."""
    try:
        iterate = np.array(x, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"{name!r} yielded {x!r}; yield the iterate x, an array of shape ({n},)") from None
    if iterate.shape != (n,) or not np.isfinite(iterate).all():
        what = f"shape {iterate.shape}" if iterate.shape != (n,) else "NaN or infinity in it"
        raise ArgumentError(f"{name!r} yielded an iterate of {what}; yield finite numbers of shape ({n},)")
    return iterate
