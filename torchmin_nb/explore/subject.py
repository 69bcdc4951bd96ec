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
    """What the user brings. function: of x (n,), with x0 its start; or closure, over `parameters` of a model.

    values: where the parameters start, and are put back to before each run: there is one model, and no copy of it.
    bounds, constraints, residuals: as Problem has them; residuals of a function are of x.
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
        """How many parameters there are."""
        return sum(value.numel() for value in self.values)

    def require_start(self, start: Sequence[float]) -> None:
        """ArgumentError for a start of the wrong length."""
        if len(start) != self.n:
            raise ArgumentError(f"the start has {len(start)} numbers for {self.n} parameters; pass {self.n}")

    def make(
        self, *, start: Sequence[float] | None = None, dtype: torch.dtype | None = None, place: bool = True
    ) -> Problem:
        """The problem at its start, or at `start`, shape (n,). A model's parameters are put back there, if `place`.

        dtype: of the parameter that a function is given; a model keeps its own. Raises ArgumentError for a start of the
        wrong length or with NaN in it.
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
    """What is listed: a function and its start, a model and its closure, or nothing at all, None.

    name, bounds, constraints, residuals: as `of_function` and `of_model` take them. Raises ArgumentError for a half,
    and as `of_function`.
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
    """The problem of minimising fun(x), a scalar, from x0: a tensor or numbers, shape (n,).

    Raises what the first evaluation shows to be wrong, with the remedy: ArgumentTypeError for what is no function or no
    start, NonFiniteStartError, ClosureError.
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

    Raises as `of_function`; the parameters are left as they are.
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
