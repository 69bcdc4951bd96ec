"""BFGS with a dense inverse Hessian: SciPy's iterates, each update one product of N×2 and 2×N matrices, in place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .contract import Sample
from .line_search import Along
from .quasi_newton import Change, QuasiNewton, QuasiNewtonState
from .scalars import dots

__all__ = ["BFGS", "BFGSState"]


@dataclass(slots=True, kw_only=True)
class BFGSState(QuasiNewtonState):
    """hess_inv: the inverse Hessian H, shape (n, n)."""

    hess_inv: torch.Tensor


class BFGS(QuasiNewton[BFGSState]):
    """Broyden, Fletcher, Goldfarb, Shanno: J. Nocedal, S. J. Wright, "Numerical Optimization" (2006), algorithm 6.1."""

    as_scipy = True

    def begin(self, sample: Sample, hess_inv0: torch.Tensor) -> BFGSState:
        """The state at the start."""
        return BFGSState(sample, previous_loss=sample.loss + sample.norm / 2, hess_inv=hess_inv0)

    def direction(self, state: BFGSState) -> tuple[Along, torch.Tensor]:
        """−Hg, twice."""
        gradient = state.sample.gradient
        direction = torch.mv(state.hess_inv, gradient).neg_()
        return Along(direction, *dots((gradient, direction), (direction, direction))), direction

    def learn(self, state: BFGSState, change: Change) -> None:
        """H ← (I − ρsyᵀ) H (I − ρysᵀ) + ρssᵀ with ρ = 1/sᵀy, as H ± ppᵀ ± qqᵀ; where sᵀy is 0, SciPy takes ρ = 1000."""
        s, y = change.s, change.y
        hy = torch.mv(state.hess_inv, y)
        sy, yhy = dots((s, y), (hy, y))
        rho = 1 / sy if sy != 0 else 1000.0
        size = rho * (1 + rho * yhy)
        if size == 0:
            return
        p = torch.add(s, hy, alpha=-rho / size).mul_(math.sqrt(abs(size)))
        q = hy.mul_(abs(rho) / math.sqrt(abs(size)))
        columns = torch.stack([p, -q] if size > 0 else [-p, q])
        state.hess_inv.addmm_(torch.stack([p, q]).T, columns)

    def reset(self, state: BFGSState) -> None:
        """H = I."""
        state.hess_inv.zero_().fill_diagonal_(1)

    def inverse_hessian(self, state: BFGSState) -> torch.Tensor:
        """The inverse Hessian of the state."""
        return state.hess_inv
