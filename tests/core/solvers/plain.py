"""A plain function as a Problem, and SciPy on the same function: what the solvers are compared on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import OptimizeResult, minimize

from torchmin_nb.core.solvers.contract import Sample, Solver, State


class FunctionProblem:
    """A function of a vector, differentiated by autograd. `counts` has "evaluations", "products", "hessians"."""

    def __init__(
        self,
        function: Callable[[torch.Tensor], torch.Tensor],
        x0: Sequence[float] | torch.Tensor,
        *,
        dtype: torch.dtype = torch.float64,
        bounds: tuple[Any, Any] | None = None,
    ):
        self.function = function
        self.x0 = torch.as_tensor(x0, dtype=dtype)
        self.n, self.dtype, self.device = self.x0.numel(), dtype, self.x0.device
        self.eps = torch.finfo(dtype).eps
        low, high = bounds if bounds is not None else (None, None)
        self.lower = None if low is None else torch.as_tensor(low, dtype=dtype).expand(self.n).clone()
        self.upper = None if high is None else torch.as_tensor(high, dtype=dtype).expand(self.n).clone()
        self.counts = {"evaluations": 0, "products": 0, "hessians": 0}

    def start(self) -> torch.Tensor:
        return self.x0.clone()

    def evaluate(self, x: torch.Tensor, along: torch.Tensor | None = None) -> Sample:
        self.counts["evaluations"] += 1
        leaf = x.detach().requires_grad_()
        loss = self.function(leaf)
        (gradient,) = torch.autograd.grad(loss, leaf)
        loss = loss.detach()
        slope = 0.0 if along is None else float(gradient.double() @ along.double())
        if not torch.isfinite(loss):
            return Sample(x, float("inf"), torch.zeros_like(x), 0.0, 0.0, 0.0)
        return Sample(x, float(loss), gradient, slope, float(gradient.abs().max()), float(gradient.norm()))

    def product(self, sample: Sample, v: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """Counted like SciPy's. A product that the method knows is compared with the true one."""
        self.counts["products"] += 1
        leaf = sample.x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.function(leaf), leaf, create_graph=True)
        return self.right(torch.autograd.grad(gradient, leaf, v)[0], known)

    def right(self, product: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
        """The known product, which must be the true one, up to rounding."""
        if known is not None and product.isfinite().all():
            assert (known - product).norm() <= 1e4 * self.eps * (1 + product.norm())
        return product if known is None else known

    def hessian(self, sample: Sample) -> torch.Tensor:
        self.counts["hessians"] += 1
        return torch.autograd.functional.hessian(self.function, sample.x.detach())


class Path:
    """What `solve` saw: the iterates with the start, losses, radii, the ending and the last state."""

    def __init__(self) -> None:
        self.points: list[np.ndarray] = []
        self.losses: list[float] = []
        self.radii: list[float | None] = []
        self.ending: Any = None
        self.state: Any = None

    def note(self, state: State) -> None:
        self.points.append(state.sample.x.numpy().copy())
        self.losses.append(state.sample.loss)
        self.radii.append(state.radius)


def solve(solver: Solver[Any], problem: Any, *, steps: int | None = None) -> Path:
    """Run a solver to its end, or for so many steps."""
    path = Path()
    state = solver.init(problem)
    path.note(state)
    while (ending := solver.terminate(problem, state)) is None and (steps is None or steps > 0):
        before = state.iteration
        state = solver.step(problem, state)
        if state.iteration > before:
            path.note(state)
        steps = None if steps is None else steps - 1
    path.state, path.ending = state, ending
    return path


def scipy_path(
    method: str, function: Callable[[torch.Tensor], torch.Tensor], x0: Sequence[float], **options: Any
) -> tuple[list[np.ndarray], OptimizeResult]:
    """SciPy's iterates, with the start, and its result, with exact derivatives. `bounds=` is no option."""

    def tensor(x: np.ndarray) -> torch.Tensor:
        return torch.tensor(x, dtype=torch.float64, requires_grad=True)

    def value(x: np.ndarray) -> float:
        return float(function(tensor(x).detach()))

    def gradient(x: np.ndarray) -> np.ndarray:
        leaf = tensor(x)
        return torch.autograd.grad(function(leaf), leaf)[0].numpy()

    def product(x: np.ndarray, v: np.ndarray) -> np.ndarray:
        leaf = tensor(x)
        (g,) = torch.autograd.grad(function(leaf), leaf, create_graph=True)
        return torch.autograd.grad(g, leaf, torch.tensor(v))[0].numpy()

    def hessian(x: np.ndarray) -> np.ndarray:
        return torch.autograd.functional.hessian(function, tensor(x).detach()).numpy()

    points = [np.array(x0, dtype=np.float64)]
    second: dict[str, Any] = {}
    if method in ("Newton-CG", "trust-ncg", "trust-krylov"):
        second["hessp"] = product
    if method in ("trust-exact", "dogleg"):
        second["hess"] = hessian
    if "bounds" in options:
        second["bounds"] = options.pop("bounds")
    result = minimize(
        value, points[0], jac=gradient, method=method, options=options, **second,
        callback=lambda intermediate_result: points.append(np.array(intermediate_result.x)),
    )  # fmt: skip
    return points, result
