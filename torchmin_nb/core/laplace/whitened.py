"""The precision matrix P^½ (I + Q diag(μ) Qᵀ) P^½: a diagonal prior P, and curvature in the units of the prior.

All forms of the posterior are this one: dense with all n eigenvectors in Q, low-rank with a few of them, diagonal with
the unit vectors. D. J. C. MacKay, "A practical Bayesian framework for backpropagation networks", Neural Computation 4
(1992) 448–472; E. Daxberger et al., "Laplace Redux", NeurIPS (2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Whitened"]


@dataclass(frozen=True, eq=False, slots=True)
class Whitened:
    """See the module. prior: P, shape (n,), float64. values: μ, shape (r,), float64, above −1.

    vectors: Q, orthonormal rows (r, n); None for the unit vectors.
    """

    prior: torch.Tensor
    values: torch.Tensor
    vectors: torch.Tensor | None

    @property
    def complete(self) -> bool:
        """Whether Q spans the whole space."""
        return self.vectors is None or len(self.vectors) == self.prior.numel()

    @property
    def log_determinant(self) -> torch.Tensor:
        """Of I + Q diag(μ) Qᵀ: that of the precision over that of the prior."""
        return torch.log1p(self.values).sum()

    def root(self, rows: torch.Tensor) -> torch.Tensor:
        """Z, shape (k, r) or (k, r + n), with Z Zᵀ = J C Jᵀ for J in the rows (k, n), float64.

        What lies outside Q is computed as a difference of vectors, not of variances, so that no digits cancel.
        """
        white = rows / self.prior.sqrt()
        shrink = (1 + self.values).rsqrt()
        if self.vectors is None:
            return white * shrink
        basis = self.vectors.to(white.dtype)
        inside = white @ basis.T
        known = inside * shrink
        return known if self.complete else torch.cat([known, white - inside @ basis], dim=1)

    def variances(self) -> torch.Tensor:
        """The diagonal of the covariance, shape (n,), in the memory of Q."""
        if self.vectors is None:
            return 1 / (self.prior * (1 + self.values))
        squares = self.vectors.to(self.prior.dtype) ** 2
        known = (squares / (1 + self.values)[:, None]).sum(0)
        rest = 0.0 if self.complete else (1 - squares.sum(0)).clamp_min(0)
        variances: torch.Tensor = (known + rest) / self.prior
        return variances

    def transformed(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (k, n) of independent standard normal numbers as draws from the distribution, with mean 0."""
        shrink = (1 + self.values).rsqrt()
        if self.vectors is None:
            return rows * shrink / self.prior.sqrt()
        basis = self.vectors.to(rows.dtype)
        inside = rows @ basis.T
        rest = 0.0 if self.complete else rows - inside @ basis
        draws: torch.Tensor = ((inside * shrink) @ basis + rest) / self.prior.sqrt()
        return draws

    def solve(self, vector: torch.Tensor) -> torch.Tensor:
        """The covariance times a vector (n,)."""
        white = vector / self.prior.sqrt()
        if self.vectors is None:
            return white / (1 + self.values) / self.prior.sqrt()
        basis = self.vectors.to(white.dtype)
        inside = basis @ white
        rest = 0.0 if self.complete else white - basis.T @ inside
        solved: torch.Tensor = (basis.T @ (inside / (1 + self.values)) + rest) / self.prior.sqrt()
        return solved
