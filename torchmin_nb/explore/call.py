"""A run as a record: the checked fields of a form, and the optimizer and closure that they define."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..core.methods.options import OptionSpec
from ..core.optimizers.device_run import EngineName, read_engine
from ..core.optimizers.global_search.kwargs import read_kwargs
from ..core.optimizers.least_squares_request import read_least_squares
from ..core.optimizers.request import read_request
from ..errors import ArgumentError, TorchminError
from ..problems import PROBLEMS, Problem, ProblemSpec
from .catalogue import GLOBAL, LEAST_SQUARES, LOCAL, Entry, entry
from .subject import Subject

__all__ = ["DTYPES", "Call", "Form", "Reading", "read_form"]

DTYPES: Mapping[str, torch.dtype] = {"float64": torch.float64, "float32": torch.float32}
_WORDS: Mapping[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "yes": True,
    "no": False,
    "on": True,
    "off": False,
}


@dataclass(frozen=True)
class Call:
    """One whole run: on which problem, from where, with which method and budgets.

    Attributes
    ----------
    problem : str or Subject
        A name in PROBLEMS, or a problem of your own.
    method : str
        Name of the method.
    settings : dict of str to float
        Settings of the problem that are not at their default.
    seed : int
        Seed of the start and of random methods.
    start : tuple of float or None
        Start of n numbers; None for that of the problem.
    dtype : {"float64", "float32"}
        dtype of the parameters.
    options : dict
        Options of the method that are not at their default.
    tol : float or None
        One number for all tolerances.
    bounds : bool
        Whether the problem's bounds are used.
    constraints : bool
        Whether the problem's constraints are used.
    max_iterations : int or None
        Largest number of iterations.
    max_evaluations : int or None
        Largest number of closure calls.
    max_seconds : float or None
        Largest number of seconds.
    pace : float
        Seconds to hold each iteration; it only slows the run down.
    engine : {"scipy", "torch", "auto"} or None
        What runs the method, as for `MinimizeWrapper`.

    Examples
    --------
    >>> call = Call("Rosenbrock", "BFGS", max_iterations=100)
    >>> run(call).solved
    True
    >>> call.with_method("trust-ncg").label
    'trust-ncg'
    """

    problem: str | Subject
    method: str
    settings: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    start: tuple[float, ...] | None = None
    dtype: str = "float64"
    options: Mapping[str, Any] = field(default_factory=dict)
    tol: float | None = None
    bounds: bool = True
    constraints: bool = True
    max_iterations: int | None = None
    max_evaluations: int | None = None
    max_seconds: float | None = None
    pace: float = 0.0
    engine: EngineName | None = None

    @property
    def entry(self) -> Entry:
        """The row of the method for its engine.

        UnknownMethodError is raised if there is no such method, ArgumentError if the engine does not have it.
        """
        return entry(self.method).on(self.engine, self.options)

    @property
    def label(self) -> str:
        """The method, with its engine if one is named: 'BFGS (torch)'."""
        return self.method if self.engine is None else f"{self.method} ({self.engine})"

    @property
    def spec(self) -> ProblemSpec | None:
        """The problem's row; None for a problem of your own. ArgumentError is raised for an unknown name."""
        return None if isinstance(self.problem, Subject) else problem_named(self.problem)

    @property
    def title(self) -> str:
        """The problem in a few words: its name and the settings that were changed."""
        name = self.problem.name if isinstance(self.problem, Subject) else self.problem
        changed = [f"{key} = {value:g}" for key, value in self.settings.items()]
        return ", ".join([name, *changed])

    @property
    def problem_key(self) -> tuple[Any, ...]:
        """A tuple that is equal for runs that can be compared: same problem and settings, from any start."""
        if isinstance(self.problem, Subject):
            return (self.problem.name, self.problem.n, "own")
        return (self.problem, tuple(sorted(self.settings.items())), self.dtype)

    @property
    def instance(self) -> str:
        """The problem and its seed in words, to distinguish the problems of a race."""
        return f"{self.title}, seed {self.seed}"

    def make(self, *, place: bool = True) -> Problem:
        """The problem at its start, new.

        Parameters
        ----------
        place : bool, optional
            True, the default: the parameters of a model of yours are put back to the start.

        Returns
        -------
        Problem
            The problem.

        Raises
        ------
        ArgumentError
            If the problem is unknown, a setting is not allowed, or the start has a wrong shape.
        ArgumentTypeError
            If the start or a setting is no number.
        """
        if isinstance(self.problem, Subject):
            return self.problem.make(start=self.start, dtype=DTYPES[self.dtype], place=place)
        spec = problem_named(self.problem)
        return spec.make(dtype=DTYPES[self.dtype], seed=self.seed, start=self.start, **self.settings)

    def with_method(self, name: str, options: Mapping[str, Any] | None = None, *, engine: str | None = None) -> Call:
        """The same run with another method or engine, and without `tol`.

        Parameters
        ----------
        name : str
            Name of the method.
        options : dict or None, optional
            Its options. Default: its defaults.
        engine : {"scipy", "torch", "auto"} or None, optional
            What runs the method. Default: SciPy, if it has the method.

        Returns
        -------
        Call
            A new call.

        Raises
        ------
        UnknownMethodError
            If there is no such method.
        ArgumentError
            If the engine does not have this method.
        """
        row, other = _by_engine(entry(name), engine)
        return replace(self, method=row.name, options=dict(options or {}), tol=None, engine=other)


def problem_named(name: str) -> ProblemSpec:
    """The row of a problem. Raises ArgumentError, which lists the known problems."""
    if name not in PROBLEMS:
        raise ArgumentError(f"problem {name!r} is not known; choose one of {', '.join(PROBLEMS)}")
    return PROBLEMS[name]


@dataclass(frozen=True)
class Form:
    """The raw values of a form's fields: text, numbers and ticks as widgets give them. Empty text is no value.

    Attributes
    ----------
    problem : str or Subject
        A name in PROBLEMS, or a problem of your own.
    method : str
        Name of the method.
    settings : dict of str to object
        Settings of the problem.
    seed : object
        Seed, as text or number.
    start : object
        Start, as text such as "-1.2, 1" or a sequence of numbers.
    dtype : str
        "float64" or "float32".
    options : dict of str to object
        Options of the method.
    tol : object
        One number for all tolerances.
    bounds : object
        Whether the problem's bounds are used.
    constraints : object
        Whether the problem's constraints are used.
    max_iterations : object
        Largest number of iterations.
    max_evaluations : object
        Largest number of closure calls.
    max_seconds : object
        Largest number of seconds.
    pace : object
        Seconds to hold each iteration.
    engine : object
        "scipy", "torch", "auto" or empty.

    See Also
    --------
    read_form : reads it, and has an example.
    """

    problem: str | Subject
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: Any = 0
    start: Any = None
    dtype: str = "float64"
    options: Mapping[str, Any] = field(default_factory=dict)
    tol: Any = None
    bounds: Any = True
    constraints: Any = True
    max_iterations: Any = None
    max_evaluations: Any = None
    max_seconds: Any = None
    pace: Any = 0.0
    engine: Any = None


@dataclass(frozen=True)
class Reading:
    """A form that was read.

    Attributes
    ----------
    call : Call or None
        The run; None if a field is wrong.
    messages : dict of str to str
        What is wrong, by field: "options.gtol", "settings.n".

    See Also
    --------
    read_form : makes it, and has an example.
    """

    call: Call | None
    messages: Mapping[str, str] = field(default_factory=dict)


def read_form(form: Form) -> Reading:
    """The Call that a form stands for, or what is wrong in which field and what is allowed there. It raises nothing.

    Parameters
    ----------
    form : Form
        The raw values.

    Returns
    -------
    Reading
        The call or the messages.

    Examples
    --------
    >>> read_form(Form("Rosenbrock", "BFGS", max_iterations="100")).call.max_iterations
    100
    >>> read_form(Form("Rosenbrock", "BFGS", max_seconds="soon")).messages
    {'max_seconds': "the time in seconds must be a number above 0, got 'soon'"}
    """
    messages: dict[str, str] = {}

    def take(name: str, read: Callable[[], Any], default: Any = None) -> Any:
        try:
            return read()
        except (TorchminError, TypeError, ValueError) as error:
            messages[name] = str(error)
            return default

    own = take("method", lambda: entry(form.method))
    row, engine = (None, None) if own is None else take("engine", lambda: _by_engine(own, form.engine), (own, None))
    spec = None if isinstance(form.problem, Subject) else take("problem", lambda: problem_named(str(form.problem)))
    settings = _read_settings(form.settings, spec, take)
    options = {} if row is None else _read_options(row, form.options, take)
    call = Call(
        problem=form.problem,
        method=form.method if row is None else row.name,
        settings=settings,
        seed=take("seed", lambda: _whole("the seed", form.seed, 0) or 0, 0),
        start=take("start", lambda: _point(form.start)),
        dtype=take("dtype", lambda: _one_of("dtype", form.dtype, DTYPES), "float64"),
        options=options,
        tol=take("tol", lambda: _number("tol", form.tol, 0.0)),
        bounds=bool(form.bounds),
        constraints=bool(form.constraints),
        max_iterations=take("max_iterations", lambda: _whole("the number of iterations", form.max_iterations, 1)),
        max_evaluations=take("max_evaluations", lambda: _whole("the number of closure calls", form.max_evaluations, 1)),
        max_seconds=take("max_seconds", lambda: _number("the time in seconds", form.max_seconds, 0.0, open_low=True)),
        pace=take("pace", lambda: _number("the pace in seconds", form.pace, 0.0) or 0.0, 0.0),
        engine=engine,
    )
    if not messages and call.start is not None:
        take("start", lambda: _check_start(call, call.start or ()))
    return Reading(None if messages else call, messages)


Take = Callable[..., Any]


def _by_engine(own: Entry, raw: Any) -> tuple[Entry, EngineName | None]:
    """The row with the options, and the engine if it is not the default. Raises ArgumentError."""
    engine = read_engine(raw or None)
    if engine == "auto":
        return own, engine if len(own.engines) > 1 else None
    row = own.on(engine)
    return row, None if row.engine == own.engine else engine


def _read_settings(texts: Mapping[str, Any], spec: ProblemSpec | None, take: Take) -> dict[str, float]:
    """The settings that differ from their default."""
    rows = {} if spec is None else {setting.name: setting for setting in spec.settings}
    settings: dict[str, float] = {}
    for name, raw in texts.items():
        if name not in rows:
            continue  # settings of the previous problem in the form
        row = rows[name]
        read = _whole if isinstance(row.default, int) else _number
        value = take(f"settings.{name}", lambda read=read, row=row, raw=raw: read(row.name, raw, row.low, row.high))
        if value is not None and value != row.default:
            settings[name] = value
    return settings


def _read_options(row: Entry, texts: Mapping[str, Any], take: Take) -> dict[str, Any]:
    """The options that differ from their default; options of another method or engine are ignored."""
    options: dict[str, Any] = {}
    for name, raw in texts.items():
        if name not in row.options:
            continue
        option = row.options[name]
        value = take(f"options.{name}", lambda option=option, raw=raw: _option(row, option, raw), option.default)
        if not _same(value, option.default):
            options[name] = value
    return options


def _option(row: Entry, option: OptionSpec, raw: Any) -> Any:
    """The value of an option, checked against its row. Raises ArgumentError."""
    value = _value(option, raw)
    if not _same(value, option.default):
        _CHECKS[row.kind](row, {option.name: value})
    return value


_CHECKS: Mapping[str, Callable[[Entry, dict[str, Any]], object]] = {
    LOCAL: lambda row, options: read_request({"method": row.name, "options": options}),
    LEAST_SQUARES: lambda row, options: read_least_squares({"method": row.name, **options}),
    GLOBAL: lambda row, options: read_kwargs(row.spec, options),  # type: ignore[arg-type]
}


def _value(option: OptionSpec, raw: Any) -> Any:
    """A widget's value as the value of an option: text becomes a number, True, None or a tuple, or remains text."""
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        return option.default
    if not isinstance(raw, str):
        return int(raw) if option.kind == "int" and isinstance(raw, float) and raw.is_integer() else raw
    text = raw.strip()
    chosen = next((choice for choice in option.choices if str(choice) == text), None)
    if chosen is not None:
        return chosen
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    value = _literal(text)
    return int(value) if option.kind == "int" and isinstance(value, float) and value.is_integer() else value


def _literal(text: str) -> Any:
    try:
        return float(text) if text.lower().lstrip("+-") in ("inf", "infinity") else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _same(value: Any, default: Any) -> bool:
    return (
        type(value) is type(default) and bool(value == default) if isinstance(value, bool) else _equal(value, default)
    )


def _equal(value: Any, default: Any) -> bool:
    try:
        return bool(value == default)
    except ValueError:  # arrays
        return False


def _number(
    name: str, raw: Any, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> float | None:
    """A finite number within [low, high], or None for an empty field. Raises ArgumentError."""
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        return None
    try:
        value = float(raw)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value) or not low <= value <= high or (open_low and value == low):
        raise ArgumentError(f"{name} must be a number{_range(low, high, open_low=open_low)}, got {raw!r}")
    return value


def _whole(name: str, raw: Any, low: float = -math.inf, high: float = math.inf) -> int | None:
    """A whole number within [low, high], or None for an empty field. Raises ArgumentError."""
    value = None
    try:
        value = _number(name, raw, low, high)
    except ArgumentError:
        value = math.nan
    if value is None:
        return None
    if not value.is_integer():
        raise ArgumentError(f"{name} must be a whole number{_range(low, high)}, got {raw!r}")
    return int(value)


def _range(low: float, high: float, *, open_low: bool = False) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f" from {low:g} to {high:g}"
    if math.isfinite(low):
        return f" {'above' if open_low else 'of at least'} {low:g}"
    return f" of at most {high:g}" if math.isfinite(high) else ""


def _check_start(call: Call, start: tuple[float, ...]) -> None:
    """Raise ArgumentError for a start that does not fit the problem; a model's parameters are not changed."""
    if isinstance(call.problem, Subject):
        call.problem.require_start(start)
    else:
        call.make()


def _one_of(name: str, raw: Any, known: Mapping[str, Any]) -> str:
    if raw not in known:
        raise ArgumentError(f"{name} must be one of {', '.join(known)}, got {raw!r}")
    return str(raw)


def _point(raw: Any) -> tuple[float, ...] | None:
    """'1, 2.5' or a sequence of numbers; None for an empty field. Raises ArgumentError."""
    if raw is None or (isinstance(raw, str) and not raw.strip("[]() ")):
        return None
    parts: Sequence[Any] = raw.strip("[]() ").replace(",", " ").split() if isinstance(raw, str) else raw
    try:
        point = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        raise ArgumentError(f"the start must be numbers such as '-1.2, 1', got {raw!r}") from None
    if not all(map(math.isfinite, point)):
        raise ArgumentError(f"the start must be finite numbers, got {raw!r}; clear the field to use the default start")
    return point
