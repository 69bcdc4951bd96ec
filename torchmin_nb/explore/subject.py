"""The user's problem: a function and a start, or a model and a closure. Checked before a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..core.autodiff.closure_check import check_closure
from ..core.parameters.flat import FlatParameters
from ..errors import ArgumentError, ArgumentTypeError, ClosureError, NonFiniteStartError, TorchminError, text_of
from ..problems import Problem

__all__ = ["Subject", "of_function", "of_model", "subject_of"]


@dataclass(frozen=True, eq=False)
class Subject:
    """A problem of your own: a function with its start, or a model with its closure.

    Attributes
    ----------
    name : str
        Name of the problem.
    values : tuple of torch.Tensor
        Where the parameters start. They are put back there before each run: there is one model, and no copy of it.
    function : callable or None
        The loss as a function of x, shape (n,); None with a closure.
    parameters : tuple of torch.nn.Parameter
        Parameters of the model; empty with a function.
    closure : callable or None
        Computes the loss of the model; None with a function.
    bounds : (low, high) or None
        As in `Problem`.
    constraints : tuple
        As in `Problem`.
    residuals : callable or None
        As in `Problem`; of a function it takes x.

    See Also
    --------
    of_function : makes it, and has an example.
    """

    name: str
    values: tuple[torch.Tensor, ...]
    function: Callable[[torch.Tensor], torch.Tensor] | None = None
    parameters: tuple[torch.nn.Parameter, ...] = ()
    closure: Callable[[], torch.Tensor] | None = None
    bounds: tuple[Any, Any] | None = None
    constraints: tuple[Any, ...] = ()
    residuals: Callable[..., torch.Tensor] | None = field(default=None)

    @property
    def n(self) -> int:
        """Number of entries of all parameters."""
        return sum(value.numel() for value in self.values)

    def require_start(self, start: Sequence[float]) -> None:
        """Refuse a start of the wrong length.

        Parameters
        ----------
        start : sequence of float
            The start.

        Raises
        ------
        ArgumentError
            If it does not have n numbers.
        """
        if len(start) != self.n:
            raise ArgumentError(f"the start has {len(start)} numbers for {self.n} parameters; pass {self.n}")

    def make(
        self, *, start: Sequence[float] | None = None, dtype: torch.dtype | None = None, place: bool = True
    ) -> Problem:
        """The problem at its start.

        Parameters
        ----------
        start : array_like of shape (n,) or None, optional
            Another start. Default: `values`.
        dtype : torch.dtype or None, optional
            dtype of the parameter that a function gets; a model keeps its own. Default: that of the start.
        place : bool, optional
            True, the default: the parameters of a model are put to the start.

        Returns
        -------
        Problem
            The problem.

        Raises
        ------
        ArgumentError
            If the start has a wrong length.
        """
        function, residuals = self.function, self.residuals
        if function is None:
            assert self.closure is not None
            parameters: Sequence[torch.nn.Parameter] = self.parameters
            made = Problem(
                parameters, self.closure, bounds=self.bounds, constraints=self.constraints, residuals=residuals
            )
        else:
            x = torch.nn.Parameter(self.values[0].detach().clone().to(dtype or self.values[0].dtype))
            parameters = [x]
            made = Problem(
                parameters,
                lambda: function(x),
                function=lambda points: _of_rows(function, points),
                bounds=self.bounds,
                constraints=self.constraints,
                residuals=None if residuals is None else lambda: residuals(x),
            )
        if start is not None:
            self.require_start(start)
        if place or function is not None:
            _place(parameters, self.values, start)
        return made


def subject_of(
    function: Callable[[torch.Tensor], torch.Tensor] | None = None,
    x0: Any = None,
    *,
    model: torch.nn.Module | Sequence[torch.nn.Parameter] | None = None,
    closure: Callable[[], torch.Tensor] | None = None,
    name: str | None = None,
    bounds: tuple[Any, Any] | None = None,
    constraints: Sequence[Any] = (),
    residuals: Callable[..., torch.Tensor] | None = None,
) -> Subject | None:
    """A problem of your own from what is named: a function and its start, or a model and its closure.

    Parameters
    ----------
    function : callable or None, optional
        The loss as a function of x, shape (n,), a scalar tensor.
    x0 : torch.Tensor, array_like of shape (n,) or None, optional
        The start of the function.
    model : torch.nn.Module, sequence of torch.nn.Parameter or None, optional
        The parameters of the closure.
    closure : callable or None, optional
        Computes the loss of the model, a scalar tensor.
    name : str or None, optional
        Name of the problem. Default: that of the function, or of the model's class.
    bounds : (low, high) or None, optional
        Numbers or tensors, for all parameters.
    constraints : sequence, optional
        What ``minimizer_args["constraints"]`` takes.
    residuals : callable or None, optional
        Residuals, shape (m,), if the loss is half the sum of their squares: of x for a function, without arguments for
        a model.

    Returns
    -------
    Subject or None
        None if nothing is named.

    Raises
    ------
    ArgumentError
        If a function has no start, or a model no closure, or a closure no model, or no parameter is trainable.
    ArgumentTypeError
        If function or closure is not callable, or the start is no numbers.
    NonFiniteStartError
        If start or loss is not finite at the start.
    ClosureError
        If the loss cannot be evaluated at the start.

    Examples
    --------
    >>> subject = subject_of(lambda x: ((x - 3) ** 2).sum(), [0.0, 0.0], name="two squares")
    >>> subject.name, subject.n, run(Call(subject, "BFGS")).loss < 1e-12
    ('two squares', 2, True)
    """
    limits: dict[str, Any] = {"name": name, "bounds": bounds, "constraints": constraints, "residuals": residuals}
    if function is not None:
        if x0 is None:
            raise ArgumentError("a function needs a start; pass function and x0")
        return of_function(function, x0, **limits)
    if model is None and closure is None:
        return None
    if model is None or closure is None:
        raise ArgumentError("a model needs a closure and a closure its model; pass both: model=model, closure=closure")
    return of_model(model, closure, **limits)


def of_function(
    fun: Callable[[torch.Tensor], torch.Tensor],
    x0: Any,
    *,
    name: str | None = None,
    bounds: tuple[Any, Any] | None = None,
    constraints: Sequence[Any] = (),
    residuals: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Subject:
    """The problem of minimising fun(x) from x0. It is evaluated once, to find out what is wrong.

    Parameters
    ----------
    fun : callable
        The loss as a function of x, shape (n,), a scalar tensor.
    x0 : torch.Tensor or array_like of shape (n,)
        The start. Numbers become float64.
    name : str or None, optional
        Name of the problem. Default: that of the function.
    bounds : (low, high) or None, optional
        Numbers or tensors, for all parameters.
    constraints : sequence, optional
        What ``minimizer_args["constraints"]`` takes.
    residuals : callable or None, optional
        Residuals as a function of x, shape (m,), if the loss is half the sum of their squares.

    Returns
    -------
    Subject
        The problem.

    Raises
    ------
    ArgumentTypeError
        If `fun` is not callable, or `x0` is no numbers.
    NonFiniteStartError
        If start or loss is not finite at the start.
    ClosureError
        If the loss cannot be evaluated at the start.

    Examples
    --------
    >>> subject = of_function(lambda x: (x**4).sum(), [3.0, 4.0], name="quartic")
    >>> subject.make().closure().item()
    337.0
    """
    if not callable(fun):
        raise ArgumentTypeError(f"the function must be callable with a tensor x, got {type(fun).__name__}")
    try:
        start = x0.detach().clone() if isinstance(x0, torch.Tensor) else torch.as_tensor(x0, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentTypeError(f"x0 must be a tensor or numbers such as [-1.2, 1.0], got {x0!r}") from None
    if not start.is_floating_point():
        start = start.to(torch.float64)
    named = name or getattr(fun, "__name__", "my function").replace("<lambda>", "my function")
    subject = Subject(named, (start,), function=fun, bounds=bounds, constraints=tuple(constraints), residuals=residuals)
    return _checked(subject)


def of_model(
    model: torch.nn.Module | Sequence[torch.nn.Parameter],
    closure: Callable[[], torch.Tensor],
    *,
    name: str | None = None,
    bounds: tuple[Any, Any] | None = None,
    constraints: Sequence[Any] = (),
    residuals: Callable[[], torch.Tensor] | None = None,
) -> Subject:
    """The problem of minimising closure() over the model's trainable parameters, from where they are now.

    The closure is called once, to find out what is wrong. The parameters are left as they are.

    Parameters
    ----------
    model : torch.nn.Module or sequence of torch.nn.Parameter
        The model. Parameters with ``requires_grad=False`` are left out.
    closure : callable
        Computes the loss, a scalar tensor.
    name : str or None, optional
        Name of the problem. Default: that of the model's class.
    bounds : (low, high) or None, optional
        Numbers or tensors, for all parameters.
    constraints : sequence, optional
        What ``minimizer_args["constraints"]`` takes.
    residuals : callable or None, optional
        Residuals, shape (m,), if the loss is half the sum of their squares.

    Returns
    -------
    Subject
        The problem.

    Raises
    ------
    ArgumentTypeError
        If the closure is not callable.
    ArgumentError
        If no parameter is trainable.
    NonFiniteStartError
        If parameters or loss are not finite.
    ClosureError
        If the loss cannot be evaluated.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 1)
    >>> subject = of_model(model, lambda: (model(torch.ones(2)) - 1).square().sum())
    >>> subject.name, subject.n
    ('Linear', 3)
    """
    if not callable(closure):
        raise ArgumentTypeError(
            f"the closure must be a function of no arguments that returns the loss, got {type(closure).__name__}"
        )
    listed = model.parameters() if isinstance(model, torch.nn.Module) else model
    parameters = tuple(parameter for parameter in listed if parameter.requires_grad)
    if not parameters:
        raise ArgumentError("the model has no trainable parameter; set requires_grad=True on those to fit")
    values = tuple(parameter.detach().clone() for parameter in parameters)
    named = name or (type(model).__name__ if isinstance(model, torch.nn.Module) else "my model")
    return _checked(
        Subject(
            named,
            values,
            parameters=parameters,
            closure=closure,
            bounds=bounds,
            constraints=tuple(constraints),
            residuals=residuals,
        )
    )


def _checked(subject: Subject) -> Subject:
    """The subject, after a check of its loss at the start."""
    for value in subject.values:
        if not bool(value.isfinite().all()):
            raise NonFiniteStartError(
                f"the start of {subject.name} contains NaN or infinity: {_few(value)}; pass finite numbers"
            )
    problem = subject.make()
    try:
        report = check_closure(problem.closure, FlatParameters(list(problem.parameters)), directions=1)
    except TorchminError:
        raise
    except Exception as error:
        raise ClosureError(
            f"{subject.name} raised {type(error).__name__} at its start: {text_of(error)}; call it once yourself, "
            f"with shape {[tuple(value.shape) for value in subject.values]}, and make it return a scalar loss"
        ) from error
    if report.loss != report.loss or abs(report.loss) == float("inf"):
        raise NonFiniteStartError(
            f"the loss of {subject.name} is {report.loss} at the start; start at a point where it is finite, or "
            "exclude poles and logarithms of zero by bounds"
        )
    return subject


def _place(
    parameters: Sequence[torch.nn.Parameter], values: Sequence[torch.Tensor], start: Sequence[float] | None
) -> None:
    flat = FlatParameters(list(parameters))
    if start is not None:
        point = torch.tensor(start, dtype=torch.float64)
    else:
        point = torch.cat([value.detach().reshape(-1).to("cpu", torch.float64) for value in values])
    flat.write_final(point.numpy())
    flat.clear_gradients()


def _of_rows(function: Callable[[torch.Tensor], torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    """The function at each of the points (..., n), shape (...)."""
    rows = points.reshape(-1, points.shape[-1])
    return torch.stack([function(row).reshape(()) for row in rows]).reshape(points.shape[:-1])


def _few(value: torch.Tensor) -> str:
    shown = [f"{number:g}" for number in value.reshape(-1)[:5].tolist()]
    return ", ".join(shown) + (" …" if value.numel() > len(shown) else "")
