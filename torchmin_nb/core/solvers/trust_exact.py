"""trust-exact: the step nearly exactly, by Newton's method on the damping of a factorised Hessian.

J. J. Moré, D. C. Sorensen, "Computing a trust region step", SIAM Journal on Scientific and Statistical Computing 4
(1983) 553–572; A. R. Conn, N. I. M. Gould, P. L. Toint, "Trust region methods" (2000), section 7.3; with SciPy's
constants and its order of work.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Unpack

import torch

from .contract import Problem, Sample
from .trust_region import Proposal, TrustRegion, TrustRegionOptions, to_sphere
from .vectors import dot, finite_curvature, numbers, wide

__all__ = ["MoreSorensen", "TrustExact"]

_THETA, _EASY, _HARD = 0.01, 0.1, 0.2
"""SciPy's constants: position of a damping in an interval; tolerances for the boundary and for the best step."""
_MAXITER = 25


class TrustExactOptions(TrustRegionOptions, total=False):
    """SciPy's options of trust-exact."""

    subproblem_maxiter: int | None


class TrustExact(TrustRegion):
    """SciPy's trust-exact. subproblem_maxiter: factorisations in a step; None means 25."""

    def __init__(self, *, subproblem_maxiter: int | None = None, **options: Unpack[TrustRegionOptions]):
        super().__init__(MoreSorensen(_MAXITER if subproblem_maxiter is None else subproblem_maxiter), **options)


class MoreSorensen:
    """One transfer for each factorisation, and one or two more if it fails or the damping is too large.

    At a point it keeps the Hessian, bounds of its eigenvalues, and after a rejected step the lower bound of the
    damping with its radius.
    """

    def __init__(self, maxiter: int = _MAXITER):
        self._maxiter = maxiter

    def model(self, problem: Problem, sample: Sample) -> dict[str, Any]:
        """The Hessian with Gershgorin's bounds, its norms and its least diagonal entry: one transfer."""
        hessian = wide(problem.hessian(sample))
        diagonal, rows = hessian.diagonal(), hessian.abs().sum(1)
        off = rows - diagonal.abs()
        names = "lowest", "highest", "largest_row", "frobenius", "least"
        found = numbers((diagonal - off).min(), (diagonal + off).max(), rows.max(), hessian.norm(), diagonal.min())
        finite_curvature(*found)
        return {"hessian": hessian, **dict(zip(names, found, strict=True)), "low": 0.0, "radius": -1.0}

    def solve(self, problem: Problem, sample: Sample, model: dict[str, Any], radius: float) -> Proposal | None:
        """The step; None if the factorisation failed for every damping."""
        gradient = wide(sample.gradient)
        search = _Search(model, gradient, sample.norm, radius)
        on_boundary = search.run(self._maxiter)
        if search.step is None:
            return None
        step = search.step
        kept = {**model, "low": search.low, "radius": radius}
        slope, curvature, square = numbers(dot(gradient, step), dot(step, model["hessian"] @ step), dot(step, step))
        return Proposal(step.to(sample.x.dtype), math.sqrt(square), on_boundary, slope, curvature, lambda: kept)


class _Factor(NamedTuple):
    """U with UᵀU = H + damping·I, the step p that solves (H + damping·I) p = -g, and the length of U⁻ᵀp.

    failed: 0, or the order of the leading block that is not positive definite; then the other fields are invalid.
    """

    upper: torch.Tensor
    step: torch.Tensor
    failed: int
    length: float
    w_length: float


class _Search:
    """The search for the damping, between bounds low and high. step: the last step."""

    def __init__(self, model: dict[str, Any], gradient: torch.Tensor, norm: float, radius: float):
        """The bounds of Conn, Gould and Toint, section 7.3.8."""
        self._hessian, self._gradient, self._radius = model["hessian"], gradient, radius
        frobenius, largest_row = model["frobenius"], model["largest_row"]
        self._high: float = max(0.0, norm / radius + min(-model["lowest"], frobenius, largest_row))
        self.low: float = max(0.0, -model["least"], norm / radius - min(model["highest"], frobenius, largest_row))
        if radius < model["radius"]:
            self.low = max(model["low"], self.low)
        self._damping: float = 0.0 if self.low == 0 else self._inside()
        self._vanishes = norm <= len(gradient) * torch.finfo(gradient.dtype).eps * largest_row
        self.step: torch.Tensor | None = None

    def run(self, maxiter: int) -> bool:
        """Whether the step is on the boundary."""
        factor: _Factor | None = None
        for _ in range(maxiter):
            factor = factor or self._factorise()
            if factor.failed:
                self._raise_low(factor.failed)
                factor = None
                continue
            self.step = torch.zeros_like(self._gradient) if self._vanishes else factor.step
            if self._damping == 0 and (self._vanishes or factor.length <= self._radius):
                return False
            if self._vanishes:
                done, factor = self._along_lowest(factor), None
            elif factor.length < self._radius:
                done, factor = self._from_inside(factor)
            else:
                done, factor = self._from_outside(factor), None
            if done:
                break
        return True

    def _factorise(self) -> _Factor:
        upper, failed = self._cholesky(self._damping)
        step = -torch.cholesky_solve(self._gradient[:, None], upper, upper=True)[:, 0]
        w = torch.linalg.solve_triangular(upper.mT, step[:, None], upper=False)[:, 0]
        order, length, w_length = numbers(failed, step.norm(), w.norm())
        return _Factor(upper, step, int(order), length, w_length)

    def _from_outside(self, factor: _Factor) -> bool:
        """The step is too long: end if it is only slightly too long, else a larger damping."""
        done = abs(factor.length - self._radius) / self._radius <= _EASY
        if not done:
            self.low, self._damping = self._damping, self._newton(factor)
        return done

    def _from_inside(self, factor: _Factor) -> tuple[bool, _Factor | None]:
        """The step is too short: end if a multiple of the lowest eigenvector completes it, else a smaller damping."""
        step, (smallest, lowest) = factor.step, _smallest_singular(factor.upper)
        pairs = (step, step), (step, lowest), (lowest, lowest), (step, self._hessian @ step)
        s, pp, pz, zz, php = numbers(smallest, *(dot(a, b) for a, b in pairs))
        piece = min(to_sphere((pp, pz, zz), self._radius), key=abs)
        quadratic = php + self._damping * pp
        if piece**2 * s**2 <= _HARD * (quadratic + self._damping * self._radius**2):
            self.step = step + piece * lowest
            return True, None
        self._high, self.low = self._damping, max(self.low, self._damping - s**2)
        damping = self._newton(factor)
        if self._positive_definite(damping):
            self._damping = damping
            # SciPy continues with the factor of the earlier damping, so this code does too, for the same steps.
            return False, factor
        self.low = max(self.low, damping)
        self._damping = self._inside()
        return False, None

    def _along_lowest(self, factor: _Factor) -> bool:
        """The gradient is almost zero: the lowest eigenvector alone, if the damping fits it."""
        smallest, lowest = _smallest_singular(factor.upper)
        self.step = self._radius * lowest
        (s,) = numbers(smallest)
        done = (self._radius * s) ** 2 <= _HARD * self._damping * self._radius**2
        if not done:
            self._high, self.low = self._damping, max(self.low, self._damping - s**2)
            self._damping = self._inside()
        return done

    def _raise_low(self, order: int) -> None:
        """Raise the lower bound to the damping at which this leading block, now indefinite, becomes singular."""
        delta, square = numbers(*_singular_block(self._damped(self._damping), order))
        self.low = max(self.low, self._damping + delta / square)
        self._damping = self._inside()

    def _newton(self, factor: _Factor) -> float:
        """The next damping of Newton's method for 1/radius - 1/length."""
        excess = (factor.length - self._radius) / self._radius
        return self._damping + (factor.length / factor.w_length) ** 2 * excess

    def _inside(self) -> float:
        """A damping well inside the bounds."""
        return max(math.sqrt(abs(self.low * self._high)), self.low + _THETA * (self._high - self.low))

    def _positive_definite(self, damping: float) -> bool:
        (failed,) = numbers(self._cholesky(damping)[1])
        return not failed

    def _cholesky(self, damping: float) -> tuple[torch.Tensor, torch.Tensor]:
        upper, failed = torch.linalg.cholesky_ex(self._damped(damping), upper=True)
        return upper, failed.to(upper.dtype)

    def _damped(self, damping: float) -> torch.Tensor:
        matrix: torch.Tensor = self._hessian.clone()
        matrix.diagonal().add_(damping)
        return matrix


def _smallest_singular(upper: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """An estimate of the smallest singular value of U, and of its right singular vector. No transfer.

    A. K. Cline, C. B. Moler, G. W. Stewart, J. H. Wilkinson, "An estimate for the condition number of a matrix", SIAM
    Journal on Numerical Analysis 16 (1979) 368–375: e of ±1 is chosen so that w of Uᵀw = e grows.
    """
    n = len(upper)
    p, w = upper.new_zeros(n), upper.new_empty(n)
    signs = torch.ones(2, dtype=upper.dtype, device=upper.device)
    signs[1] = -1
    for k in range(n):
        pair = (signs - p[k]) / upper[k, k]
        rest = torch.addcmul(p[k + 1 :], pair[:, None], upper[k, k + 1 :])
        sizes = pair.abs() + rest.abs().sum(1)
        second = sizes[1] > sizes[0]
        w[k] = torch.where(second, pair[1], pair[0])
        p[k + 1 :] = torch.where(second, rest[1], rest[0])
    v = torch.linalg.solve_triangular(upper, w[:, None], upper=True)[:, 0]
    length = v.norm()
    return w.norm() / length, v / length


def _singular_block(matrix: torch.Tensor, order: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The change of the last diagonal entry that makes this leading block singular, and |v|² of its null vector v.

    The last entry of v is 1.
    """
    corner = matrix[order - 1, order - 1]
    if order == 1:
        return -corner, torch.ones_like(corner)
    column = matrix[: order - 1, order - 1, None]
    upper, _ = torch.linalg.cholesky_ex(matrix[: order - 1, : order - 1], upper=True)
    u = torch.linalg.solve_triangular(upper.mT, column, upper=False)
    v = torch.linalg.solve_triangular(upper, u, upper=True)
    return u.square().sum() - corner, 1 + v.square().sum()
