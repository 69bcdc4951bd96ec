"""Self-scaled quasi-Newton methods, which rescale the inverse Hessian in every update.

M. Al-Baali, "Numerical experience with a class of self-scaling quasi-Newton algorithms", J. Optim. Theory Appl. 96
(1998) 533–553; M. Al-Baali, H. Khalfan, "A combined class of self-scaling and modified quasi-Newton methods", Comput.
Optim. Appl. 52 (2012) 393–408. For physics-informed networks: J. F. Urbán, P. Stefanou, J. A. Pons, J. Comput. Phys.
523 (2025) 113656, whose names are used here; E. Kiyani et al., Comput. Methods Appl. Mech. Eng. 446 (2025) 118308.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch

from .contract import Sample
from .line_search import Along
from .quasi_newton import Change, QuasiNewton, QuasiNewtonState
from .scalars import dots

__all__ = ["SSBFGS", "Curvature", "SSBroyden", "SelfScaled", "SelfScaledState"]

_LEAST = 1e-15
"""Smallest a = bh − 1, which is positive except for rounding."""


@dataclass(slots=True, kw_only=True)
class SelfScaledState(QuasiNewtonState):
    """factor: J, shape (n, n), of the inverse Hessian H = JJᵀ."""

    factor: torch.Tensor


class Curvature(NamedTuple):
    """b = sᵀH⁻¹s/sᵀy, h = yᵀHy/sᵀy and a = bh − 1, in n variables."""

    b: float
    h: float
    a: float
    n: int


class SelfScaled(QuasiNewton[SelfScaledState]):
    """Broyden's family with H over τ: H ← (H − Hy(Hy)ᵀ/yᵀHy + φ yᵀHy vvᵀ)/τ + ssᵀ/sᵀy.

    v = s/sᵀy − Hy/yᵀHy, φ = (1 − θ)/(1 + aθ). On networks for differential equations the condition number of H reaches
    10¹⁶, and by rounding H is no longer positive definite. So a factor of H is updated: its condition number is the
    square root.
    """

    @abstractmethod
    def parameters(self, curvature: Curvature) -> tuple[float, float]:
        """θ and τ."""

    def begin(self, sample: Sample, hess_inv0: torch.Tensor) -> SelfScaledState:
        """The state at the start."""
        factor = hess_inv0 if self.hess_inv0 is None else torch.linalg.cholesky(hess_inv0)
        return SelfScaledState(sample, previous_loss=sample.loss + sample.norm / 2, factor=factor)

    def direction(self, state: SelfScaledState) -> tuple[Along, torch.Tensor]:
        """−JJᵀg, and Jᵀg."""
        image = torch.mv(state.factor.T, state.sample.gradient)
        direction = torch.mv(state.factor, image).neg_()
        size, square = dots((image, image), (direction, direction))
        return Along(direction, -size, square), image

    def learn(self, state: SelfScaledState, change: Change) -> None:
        """J ← J/√τ + one product of N×2 and 2×N matrices, in place; none where the curvature sᵀy is not positive.

        With w = J⁻¹s = −step·Jᵀg and z = Jᵀy, H becomes JMJᵀ, where M is I/τ but in the span of w and z. There M = RRᵀ
        in the orthonormal basis w/|w|, (z·|w|/sᵀy − w/|w|)/√a, with R = (√b, −√(ak); 0, √k) and k = 1/(τ(1 + aθ)).
        """
        factor, step = state.factor, change.step
        z = torch.mv(factor.T, change.y)
        hy = torch.mv(factor, z)
        sy, yhy = dots((change.s, change.y), (z, z))
        length = step * math.sqrt(-change.along.slope)
        if not (sy > 0 and yhy > 0 and length > 0):
            return
        b, h = length**2 / sy, yhy / sy
        curvature = Curvature(b, h, max(b * h - 1, _LEAST), z.numel())
        theta, tau = self.parameters(curvature)
        root, k = 1 / math.sqrt(tau), 1 / math.sqrt(tau * (1 + curvature.a * theta))

        first, across = change.s / length, change.image * (-step / length)
        second, down = torch.sub(hy * (length / sy), first), torch.sub(z * (length / sy), across)
        across = torch.sub(across * (math.sqrt(b) - root), down, alpha=k)
        factor.addmm_(
            torch.stack([first, second]).T,
            torch.stack([across, down.mul_((k - root) / curvature.a)]),
            beta=root,
        )

    def reset(self, state: SelfScaledState) -> None:
        """H = I."""
        state.factor.zero_().fill_diagonal_(1)

    def inverse_hessian(self, state: SelfScaledState) -> torch.Tensor:
        """JJᵀ."""
        return torch.mm(state.factor, state.factor.T)


class SSBFGS(SelfScaled):
    """BFGS of the inverse Hessian over τ = min(1, 1/b)."""

    def parameters(self, curvature: Curvature) -> tuple[float, float]:
        """θ and τ."""
        return 0.0, min(1.0, 1 / curvature.b)


class SSBroyden(SelfScaled):
    """Both θ and τ from the curvature: the second variant of Urbán, Stefanou and Pons."""

    def parameters(self, curvature: Curvature) -> tuple[float, float]:
        """θ and τ."""
        b, h, a, n = curvature
        lower = min(1.0, h * (1 - math.sqrt(a / (1 + a))))
        theta = max((lower - 1) / a, min(1 / lower, (1 - b) / b))
        sigma, rho = 1 + theta * a, min(1.0, 1 / b)
        root = sigma ** (1 / (1 - n)) if n > 1 else 1.0
        return theta, min(rho * root, sigma) if theta <= 0 else rho * min(root, 1 / theta)
