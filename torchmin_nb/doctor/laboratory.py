"""Evaluations and products of one diagnosis, counted against one budget. The model is left exactly as it was."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.autodiff.closure import Closure, ClosureResult, OwnEvaluator, evaluator_for
from ..core.autodiff.closure_check import ObservedClosure
from ..core.autodiff.hessian import ChangedGraphError, HvpGraph, finite_difference_product
from ..core.autodiff.side_effects import preserved_buffers, same_random_numbers
from ..core.parameters.flat import FlatParameters
from ..errors import ConstantLossError
from .subject import Subject

__all__ = ["ClosureFailed", "Laboratory", "OutOfBudget", "Sample", "left_as_it_was"]

Array = NDArray[np.float64]


class OutOfBudget(Exception):  # noqa: N818  # a stop, not an error: the probe is left out
    """The budget of the diagnosis does not allow this evaluation."""


class ClosureFailed(Exception):  # noqa: N818  # as above
    """The closure raised an error while its curvature was sought."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One evaluation: the loss, the gradient with respect to the solver's variables, the parts as autograd left them.

    error: what the closure raised; the loss is then NaN.
    """

    loss: float
    gradient: Array | None = None
    parts: tuple[torch.Tensor | None, ...] = ()
    dtype: torch.dtype | None = None
    error: Exception | None = None

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite."""
        return math.isfinite(self.loss) and (self.gradient is None or bool(np.isfinite(self.gradient).all()))


@contextmanager
def left_as_it_was(flat: FlatParameters) -> Iterator[None]:
    """Restore parameters, `.grad`, buffers and random numbers, without a version bump: a paused run keeps its graph."""
    held = [(tensor, tensor.data, tensor.detach().clone(), tensor.grad) for tensor in flat.tensors]
    with preserved_buffers(), same_random_numbers():
        try:
            yield
        finally:
            for tensor, data, values, gradient in held:
                if tensor.dtype is not data.dtype:
                    tensor.data = data
                tensor.data.copy_(values)
                tensor.grad = gradient


class Laboratory:
    """Evaluates the loss and its products at points z of the solver's variables, within a budget.

    closure: as `ObservedClosure`, which keeps the last returned value and its graph. calls, products: what was spent.
    """

    def __init__(self, subject: Subject, budget: int):
        self.subject, self.flat, self.variables = subject, subject.flat, subject.variables
        self.z = subject.variables.start
        self.budget = budget
        self.calls = self.products = 0
        self.observed = ObservedClosure(subject.closure)
        own = isinstance(subject.closure, OwnEvaluator)
        watched: Closure = subject.closure if own else self.observed
        self._evaluator = evaluator_for(watched, self.flat)
        self._graph: HvpGraph | None = None
        self._differences = False

    @property
    def left(self) -> int:
        """Evaluations and products that are left."""
        return self.budget - self.calls - self.products

    def sample(self, z: Array | None = None, level: str = "gradient", *, user: Array | None = None) -> Sample:
        """One evaluation at z, inside the bounds; user: at this x in place of z. Errors become a loss of NaN."""
        self.spend()
        x = self._x(z) if user is None else user
        self.flat.write(x)
        try:
            result = self._evaluate(level)
        except Exception as error:
            return Sample(math.nan, error=error)
        dtype = result.value.dtype if isinstance(result.value, torch.Tensor) else None
        gradient = None if result.gradient is None else self.variables.gradient_to_solver(result.gradient)
        return Sample(result.loss, gradient, tuple(result.parts or ()), dtype)

    def loss(self, z: Array) -> float:
        """The loss at z."""
        return self.sample(z, "value").loss

    def product(self, v: Array) -> Array:
        """The Hessian at the examined point times v, in the solver's variables. Raises OutOfBudget, ClosureFailed."""
        along = self.variables.direction_to_user(v)
        if not self._differences and self._graph is None:
            self._open_graph()
        self.spend(product=True)
        self.flat.write(self._x(None))
        if self._graph is None:
            self.spend()
            made = finite_difference_product(
                self._gradient_at, self._x(None), along, self.flat.eps, self.variables.scale
            )
        else:
            made = self._graph_product(along)
        return np.asarray(self.variables.gradient_to_solver(made))

    def users_gradient(self, z: Array) -> Array | None:
        """What the user's `jac` says at z, in the solver's variables; None if it fails. Counted as an evaluation."""
        assert self.subject.jac is not None
        self.spend()
        try:
            given = np.asarray(self.subject.jac(self._x(z)), dtype=np.float64).ravel()
        except Exception:
            return None
        return np.asarray(self.variables.gradient_to_solver(given)) if given.size == self.flat.n else None

    def claimed_product(self, v: Array) -> Array | None:
        """The product that the method of the run gets: the user's, or autograd's; None where it is by differences."""
        if self.subject.products is None:
            made = self.product(v)
            return None if self._differences else made
        self.spend(product=True)
        try:
            given = np.asarray(self.subject.products(self._x(None), self.variables.direction_to_user(v)))
        except Exception:
            return None
        return np.asarray(self.variables.gradient_to_solver(given)) if given.size == self.flat.n else None

    def inside(self, z: Array) -> Array:
        """z moved inside the bounds."""
        bounds = self.variables.bounds
        return z if bounds is None else np.clip(z, bounds.lb, bounds.ub)

    def forget_the_graph(self) -> None:
        """Make the graph of the products anew: one from before the parameters had another dtype leads to none of
        them."""
        self._graph = None

    def close(self) -> None:
        """Free all graphs."""
        self.forget_the_graph()
        self.observed.forget()

    def _x(self, z: Array | None) -> Array:
        return self.subject.x if z is None else np.ascontiguousarray(self.variables.to_user(self.inside(z)))

    def spend(self, *, product: bool = False) -> None:
        """Count one evaluation, or one product. Raises OutOfBudget."""
        if self.left < 1:
            raise OutOfBudget
        if product:
            self.products += 1
        else:
            self.calls += 1

    def _evaluate(self, level: str) -> ClosureResult:
        try:
            return self._evaluator.evaluate(level)
        except ConstantLossError:
            if level != "gradient":
                raise
            return self._evaluator.evaluate("value")

    def _open_graph(self) -> None:
        self.spend()
        self.flat.write(self._x(None))
        try:
            self._graph = self._evaluator.evaluate("curvature").graph
            if self._graph is not None:
                self._graph.hvp(np.zeros(self.flat.n))
        except Exception:  # no second derivative, or an error that differences will meet again
            self._graph = None
        self._differences = self._graph is None

    def _graph_product(self, along: Array) -> Array:
        assert self._graph is not None
        try:
            return self._graph.hvp(along)
        except ChangedGraphError:
            self._open_graph()
            if self._graph is None:
                raise OutOfBudget from None
            return self._graph.hvp(along)
        except Exception as error:
            raise ClosureFailed from error

    def _gradient_at(self, x: Array) -> Array:
        self.flat.write(x)
        try:
            gradient = self._evaluator.evaluate("gradient").gradient
        except Exception as error:
            raise ClosureFailed from error
        return np.full(self.flat.n, np.nan) if gradient is None else gradient
