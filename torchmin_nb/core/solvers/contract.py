"""The interfaces between a problem, a solver on the device, and a run.

Vectors are tensors of shape (n,) in the solver's dtype, on the parameters' device. Numbers for decisions are Python
floats: one transfer to the host for each closure call or product, and two for each iteration.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, Self, TypeVar

import torch

from ..runtime.control import Ending

__all__ = ["Problem", "Sample", "Solver", "State"]


@dataclass(slots=True)
class Sample:
    """A point, evaluated, as a method sees it.

    Attributes
    ----------
    x : torch.Tensor of shape (n,)
        The point.
    loss : float
        The loss. At a rejected trial, where the loss is not defined, it is +inf or a finite wall.
    gradient : torch.Tensor of shape (n,)
        The gradient. At a rejected trial it is the last finite one.
    slope : float
        gradient·along, summed in float64; 0 if no direction was given.
    largest : float
        Largest entry of the gradient, in size.
    norm : float
        2-norm of the gradient.

    Examples
    --------
    >>> x = torch.tensor([3.0, 4.0])
    >>> sample = Sample(x, 12.5, gradient=x, slope=0.0, largest=4.0, norm=5.0)
    >>> sample.norm
    5.0
    """

    x: torch.Tensor
    loss: float
    gradient: torch.Tensor
    slope: float
    largest: float
    norm: float


class Problem(Protocol):
    """A loss over n variables, as a solver on the device sees it. It counts, stops, scales and rejects trials.

    Vectors are tensors of shape (n,) in the solver's dtype, on the parameters' device. Numbers that decide are Python
    floats. They are brought to the host in one transfer a closure call or product, and two an iteration.

    Attributes
    ----------
    n : int
        Number of variables.
    dtype : torch.dtype
        dtype of the solver.
    device : torch.device
        Device of the parameters.
    eps : float
        Machine epsilon of the arithmetic in which the loss is computed.
    lower : torch.Tensor of shape (n,) or None
        Lower bounds.
    upper : torch.Tensor of shape (n,) or None
        Upper bounds.

    Examples
    --------
    >>> class Look:
    ...     def init(self, problem):
    ...         sample = problem.evaluate(problem.start())
    ...         print(problem.n, sample.loss, problem.product(sample, sample.gradient))
    ...         return State(sample)
    ...     def step(self, problem, state):
    ...         return state
    ...     def terminate(self, problem, state):
    ...         return Ending(1, False, "It has looked.")
    >>> decorated = method("look", needs="products")(Look)
    >>> minimize(lambda x: (x**2).sum(), [3.0, 4.0], "look").message
    2 25.0 tensor([12., 16.], dtype=torch.float64)
    'It has looked.'
    >>> unregister("look")
    """

    n: int
    dtype: torch.dtype
    device: torch.device
    eps: float
    lower: torch.Tensor | None
    upper: torch.Tensor | None

    def start(self) -> torch.Tensor:
        """A new tensor x of shape (n,) to begin at."""
        ...

    def evaluate(self, x: torch.Tensor, along: torch.Tensor | None = None) -> Sample:
        """Loss and gradient at x: one closure call, one transfer.

        Parameters
        ----------
        x : torch.Tensor of shape (n,)
            The point. The sample keeps it: do not write to it afterwards.
        along : torch.Tensor of shape (n,) or None, optional
            A direction, for the slope.

        Returns
        -------
        Sample
            The evaluated point.
        """
        ...

    def product(self, sample: Sample, v: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """The Hessian at the sample times v. No transfer.

        Parameters
        ----------
        sample : Sample
            The point.
        v : torch.Tensor of shape (n,)
            The direction.
        known : torch.Tensor of shape (n,) or None, optional
            The product, where the method knows it from others: it is returned, and counts in ``nhev`` of the result
            alone, as SciPy's methods ask for such products.

        Returns
        -------
        torch.Tensor of shape (n,)
            A new tensor.
        """
        ...

    def hessian(self, sample: Sample) -> torch.Tensor:
        """The Hessian at the sample. No transfer.

        Parameters
        ----------
        sample : Sample
            The point.

        Returns
        -------
        torch.Tensor of shape (n, n)
            Symmetric.
        """
        ...


@dataclass(slots=True)
class State:
    """What a method knows between two iterations: only tensors and numbers, so that it is copied, saved and continued.

    Attributes
    ----------
    sample : Sample
        The current point.
    iteration : int
        Number of iterations that are over.
    step_norm : float
        Length of the last step; 0 if it was rejected.
    radius : float or None
        Trust radius, of trust-region methods.
    ratio : float or None
        Reduction ratio of the last step, of trust-region methods.
    accepted : bool or None
        Whether the last step was accepted, of trust-region methods.
    ended : int or None
        The method's own code for why it cannot go on, or None.

    Examples
    --------
    >>> x = torch.tensor([3.0, 4.0])
    >>> state = State(Sample(x, 12.5, gradient=x, slope=0.0, largest=4.0, norm=5.0), iteration=1)
    >>> copy = state.copy()
    >>> copy.iteration, copy.sample.x is state.sample.x
    (1, False)
    """

    sample: Sample
    iteration: int = 0
    step_norm: float = 0.0
    radius: float | None = None
    ratio: float | None = None
    accepted: bool | None = None
    ended: int | None = None

    def copy(self) -> Self:
        """A state with memory of its own."""
        return self.unpacked(self.packed(), copy=True)

    def packed(self) -> dict[str, Any]:
        """The fields as tensors, numbers, lists and dicts. Tensors are the state's own, not copies."""
        return {field.name: _packed(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def unpacked(cls, values: dict[str, Any], *, copy: bool = False) -> Self:
        """The state of `packed` fields.

        Parameters
        ----------
        values : dict
            What `packed` returned.
        copy : bool, optional
            Copy the tensors. Default False.

        Returns
        -------
        State
            Of the class it is called on.
        """
        values = {name: _cloned(value) if copy else value for name, value in values.items()}
        return cls(**{**values, "sample": Sample(**values["sample"])})


def _packed(value: Any) -> Any:
    """Only the fields of Sample are stored, not those that a problem adds: see `packed_as`."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = getattr(value, "packed_as", type(value))
        return {field.name: _packed(getattr(value, field.name)) for field in fields(kind)}
    return [_packed(part) for part in value] if isinstance(value, list | tuple) else value


def _cloned(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: _cloned(part) for name, part in value.items()}
    return [_cloned(part) for part in value] if isinstance(value, list) else value


_S = TypeVar("_S", bound=State)


class Solver(Protocol[_S]):
    """A method that runs on the device. Its options are keywords of its constructor, under SciPy's names.

    All else is in the state. `step` evaluates first and changes the memory of the state afterwards, in place where that
    is cheaper: an exception out of an evaluation leaves the state as it was. A step that fails sets ``ended``, and does
    not count as an iteration if SciPy's does not.

    Examples
    --------
    The three methods that a solver needs; `torchmin_nb.solvers` has a whole example:

    >>> class Descent:
    ...     def init(self, problem):
    ...         return State(problem.evaluate(problem.start()))
    ...     def step(self, problem, state):
    ...         new = problem.evaluate(state.sample.x - 0.1 * state.sample.gradient)
    ...         return State(new, state.iteration + 1, step_norm=0.1 * state.sample.norm)
    ...     def terminate(self, problem, state):
    ...         return Ending(0, True, "The gradient is small.") if state.sample.largest < 1e-6 else None
    >>> decorated = method("descent", needs="gradient")(Descent)
    >>> minimize(lambda x: (x**2).sum(), [3.0, 4.0], "descent").message
    'The gradient is small.'
    >>> unregister("descent")
    """

    def init(self, problem: Problem) -> _S:
        """The state at the start, with one evaluation.

        Parameters
        ----------
        problem : Problem
            The loss.

        Returns
        -------
        State
            The first state.
        """
        ...

    def step(self, problem: Problem, state: _S) -> _S:
        """One iteration.

        Parameters
        ----------
        problem : Problem
            The loss.
        state : State
            The state before. It may not be used afterwards.

        Returns
        -------
        State
            The state after it.
        """
        ...

    def terminate(self, problem: Problem, state: _S) -> Ending | None:
        """How the method ends here.

        Parameters
        ----------
        problem : Problem
            The loss.
        state : State
            The current state.

        Returns
        -------
        Ending or None
            None if the method goes on.
        """
        ...

    def result(self, state: _S) -> dict[str, Any]:
        """What else a result has, such as ``hess_inv``.

        Parameters
        ----------
        state : State
            The last state.

        Returns
        -------
        dict of str to object
            Fields by name.
        """
        ...
