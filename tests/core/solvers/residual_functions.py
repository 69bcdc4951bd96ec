"""Plain functions of a vector as ResidualProblems: what the least-squares solvers are tested on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch

from torchmin_nb.core.solvers.least_squares import ResidualSample
from torchmin_nb.problems import PROBLEMS
from torchmin_nb.problems.pinn import poisson


class FunctionResiduals:
    """Residuals r(x), shape (m,), differentiated by autograd, J in chunks of `chunk` rows.

    `counts` has "residuals", "jacobians", "products" (with J and with its transpose).
    """

    def __init__(
        self,
        function: Callable[[torch.Tensor], torch.Tensor],
        x0: Sequence[float] | torch.Tensor,
        *,
        dtype: torch.dtype = torch.float64,
        chunk: int = 7,
    ):
        self.function = function
        self.x0 = torch.as_tensor(x0, dtype=dtype)
        self.n, self.dtype, self.device = self.x0.numel(), dtype, self.x0.device
        self.eps = torch.finfo(dtype).eps
        self.chunk, self.whole = chunk, True
        self.counts = {"residuals": 0, "jacobians": 0, "products": 0}

    def start(self) -> torch.Tensor:
        return self.x0.clone()

    def residuals(self, x: torch.Tensor) -> ResidualSample:
        self.counts["residuals"] += 1
        r = self.function(x)
        cost = 0.5 * float(r @ r)
        return ResidualSample(x, r, cost if math.isfinite(cost) else math.inf)

    def jacobian(self, sample: ResidualSample) -> torch.Tensor:
        self.counts["jacobians"] += 1
        return torch.func.jacrev(self.function)(sample.x)

    def equations(self, sample: ResidualSample) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield from zip(self.jacobian(sample).split(self.chunk), sample.residuals.split(self.chunk), strict=True)

    def product(self, sample: ResidualSample, v: torch.Tensor) -> torch.Tensor:
        self.counts["products"] += 1
        dual, transposed = self._transposed(sample)
        return torch.autograd.grad(transposed, dual, v)[0]

    def adjoint(self, sample: ResidualSample, u: torch.Tensor) -> torch.Tensor:
        self.counts["products"] += 1
        leaf = sample.x.detach().requires_grad_()
        return torch.autograd.grad(self.function(leaf), leaf, u)[0]

    def _transposed(self, sample: ResidualSample) -> tuple[torch.Tensor, torch.Tensor]:
        """u, and Jᵀu as a differentiable function of it."""
        leaf = sample.x.detach().requires_grad_()
        dual = torch.ones_like(sample.residuals, requires_grad=True)
        return dual, torch.autograd.grad(self.function(leaf), leaf, dual, create_graph=True)[0]


class PoissonResiduals(FunctionResiduals):
    """The residuals of the gallery's Poisson PINN as a function of its parameters in one vector; J by columns."""

    def __init__(self, *, seed: int, hidden: int = 32):
        self.problem = PROBLEMS["Poisson PINN"].make(seed=seed, hidden=hidden)
        shapes, residuals = [each.shape for each in self.problem.parameters], poisson(torch.float64)

        def function(x: torch.Tensor) -> torch.Tensor:
            pieces = x.split([shape.numel() for shape in shapes])
            return residuals([piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)])

        super().__init__(function, self.problem.x)

    def error(self, x: torch.Tensor) -> float:
        """The relative L2 error of the solution at x."""
        torch.nn.utils.vector_to_parameters(x, self.problem.parameters)
        assert self.problem.measures is not None
        return self.problem.measures()["relative L2 error"]

    def jacobian(self, sample: ResidualSample) -> torch.Tensor:
        self.counts["jacobians"] += 1
        dual, transposed = self._transposed(sample)
        chunks = torch.eye(self.n, dtype=self.dtype).split(16)  # fit the cache
        columns = [torch.autograd.grad(transposed, dual, v, retain_graph=True, is_grads_batched=True) for v in chunks]
        return torch.cat([each for (each,) in columns]).T
