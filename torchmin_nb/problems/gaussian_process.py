"""The hyperparameters of a Gaussian process, by its marginal likelihood, on real data."""

from __future__ import annotations

import math

import torch

from .problem import Problem, ProblemSpec
from .sources import sklearn_table
from .vector import Function, vector_problem

__all__ = ["GAUSSIAN_PROCESS", "likelihood"]

# By trust-exact to a gradient norm below 1e-12, float64; the lowest minimum from 12 starts. The tests repeat this.
_BEST = 1.2321356985043064
_MINIMIZER = (1.2728287623758, 1.4375405571688, 0.4696662669369, -0.2598066580719)
_PATIENTS = 100
_COLUMNS = [2, 8]  # body mass index and the logarithm of serum triglycerides


def likelihood(inputs: torch.Tensor, targets: torch.Tensor) -> Function:
    """−log p(targets | inputs, θ)/k of a Gaussian process, θ (..., d + 2) -> (...); inputs (k, d), targets (k,).

    θ: logarithms of the d length-scales, and of the standard deviations of signal and noise. Squared distances are
    written out, because `cdist` has no second derivative. NaN if the covariance is not positive definite in this dtype.
    """
    k = len(targets)
    differences = inputs[:, None] - inputs

    def loss(theta: torch.Tensor) -> torch.Tensor:
        lengths, signal, noise = theta[..., None, None, :-2].exp(), theta[..., -2].exp(), theta[..., -1].exp()
        correlation = torch.exp(-((differences / lengths) ** 2).sum(-1) / 2)
        unit = torch.eye(k, dtype=theta.dtype, device=theta.device)
        covariance = (signal**2)[..., None, None] * correlation + (noise**2)[..., None, None] * unit
        factor, failed = torch.linalg.cholesky_ex(covariance)
        whitened = torch.linalg.solve_triangular(factor, targets[:, None], upper=False)
        log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        value = (whitened.square().sum((-2, -1)) + log_determinant) / (2 * k) + math.log(2 * math.pi) / 2
        return torch.where(failed == 0, value, torch.nan)

    return loss


def _build(*, dtype: torch.dtype, seed: int) -> Problem:
    table = sklearn_table("diabetes")
    columns, progression = table.inputs[:_PATIENTS, _COLUMNS], table.targets[:_PATIENTS]
    inputs = torch.from_numpy((columns - columns.mean(0)) / columns.std(0)).to(dtype)
    targets = torch.from_numpy((progression - progression.mean()) / progression.std()).to(dtype)
    return vector_problem(
        likelihood(inputs, targets),
        (0.0, 0.0, 0.0, 0.0),
        [(-2.0, 2.0)] * 4,
        dtype=dtype,
        seed=seed,
        best_loss=_BEST,
        tolerance=1e-5,
        minimizers=(_MINIMIZER,),
    )


GAUSSIAN_PROCESS = ProblemSpec(
    "Gaussian process",
    "real data",
    hard="not convex, with a second minimum of wiggly fits; a long step makes the covariance singular and the loss NaN",
    answer="1.2321357 per patient at (1.2728, 1.4375, 0.4697, −0.2598); another minimum has 1.2640522",
    source="B. Efron et al., Least angle regression, Ann. Statist. 32 (2004), diabetes data: 100 patients, BMI and s5; "
    "loss: C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning (2006), equation 5.8",
    build=_build,
    many_minima=True,
)
