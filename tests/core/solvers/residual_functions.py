"""Plain functions of a vector as ResidualProblems: what the least-squares solvers are tested on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch

from torchmin_nb.core.solvers.least_squares import ResidualSample


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
        self.chunk = chunk
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

    def rows(self, sample: ResidualSample) -> Iterator[torch.Tensor]:
        yield from self.jacobian(sample).split(self.chunk)

    def product(self, sample: ResidualSample, v: torch.Tensor) -> torch.Tensor:
        self.counts["products"] += 1
        return torch.func.jvp(self.function, (sample.x,), (v,))[1]

    def adjoint(self, sample: ResidualSample, u: torch.Tensor) -> torch.Tensor:
        self.counts["products"] += 1
        return torch.func.vjp(self.function, sample.x)[1](u)[0]
