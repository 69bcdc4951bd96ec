"""`laplace(closure, params, prior_precision=…)`: the Laplace approximation at the present values of the parameters."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch

from ...errors import ArgumentError, CovarianceWarning, NotAMinimumError
from ..autodiff.closure import Closure, require_closure
from ..covariance.names import warn_of_bounds
from ..curvature.lanczos import lanczos
from ..curvature.products import Curvature, Read, opened
from ..optimizers.several_processes import on_every_rank
from ..parameters.groups import read_groups
from ..validation import count as positive_count
from ..validation import one_of, shown
from .posterior import Laplace
from .whitened import Whitened

__all__ = ["CurvatureName", "Form", "laplace"]

Form = Literal["dense", "diagonal", "low-rank"]
CurvatureName = Literal["hessian", "ggn"]

_RANK, _MORE = 50, 100
"""The default rank, and the steps of Lanczos beyond the rank."""
_FAR = 0.1
"""A maximum that is farther away, in standard deviations, is warned of."""


def laplace(
    closure: Closure,
    params: Any,
    prior_precision: Any = 1.0,
    *,
    scale: float = 1.0,
    form: Form = "dense",
    curvature: CurvatureName = "hessian",
    rank: int | None = None,
    seed: int = 0,
) -> Laplace:
    """Error bars for a model with a prior: the normal distribution N(θ, (H/scale + P)⁻¹) around the parameters θ.

    θ should minimise ``loss/scale + ½ θᵀPθ``: fit with this prior (weight decay of strength ``scale·P`` on the loss),
    and then call ``laplace`` with the loss alone. Parameters, ``.grad``, buffers and random numbers are left as they
    were.

    Parameters
    ----------
    closure : callable
        Computes the loss without the prior; a `full_batch` too. With ``curvature="ggn"`` it returns residuals instead.
    params : iterable of Tensor
        The parameters as for torch.optim: tensors, pairs (name, tensor), param groups with bounds; or a module. Entries
        with equal bounds are fixed: they have no variance.
    prior_precision : float, tensor or sequence, optional
        The prior of the parameters is normal with mean 0 and this precision, one over the variance: a positive number,
        a number for each parameter tensor, or a tensor of N entries. Default 1.
    scale : float, optional
        1 if the loss is a negative log-likelihood; 1/m if it is the mean of m such terms; s², the noise variance, for
        half a sum of squares; 2s²/m for a mean squared error. Default 1. A wrong scale gives wrong error bars.
    form : {"dense", "diagonal", "low-rank"}, optional
        "dense": exact; N² memory and N products with the Hessian. "diagonal": its diagonal only; N products, in chunks.
        "low-rank": the directions of most curvature, from Lanczos iterations, and the prior in the others, where it
        overestimates the variance. Default "dense".
    curvature : {"hessian", "ggn"}, optional
        "hessian": of the loss. "ggn": JᵀJ of residuals r, for the loss ½‖r‖². It is never negative, which helps for
        networks, whose Hessian mostly is not positive. Default "hessian".
    rank : int or None, optional
        The number of directions of "low-rank"; about ``rank + 100`` vectors of N numbers are kept meanwhile. Default:
        50, or N if that is less.
    seed : int, optional
        Seed of the first vector of "low-rank". Default 0.

    Returns
    -------
    Laplace
        Predictions, draws, evidence.

    Raises
    ------
    ArgumentError
        If the prior precision or the scale is not positive, or a name is unknown.
    NotAMinimumError
        If H/scale + P has an eigenvalue that is not positive.
    MemoryBudgetError
        If "dense" would not fit in memory.
    ClosureError
        If the loss or its second derivatives are not finite, or the closure cannot be used.

    Warns
    -----
    CovarianceWarning
        If the parameters are not at the maximum of the posterior density, or one of them lies on a bound.

    References
    ----------
    D. J. C. MacKay, "A practical Bayesian framework for backpropagation networks", Neural Computation 4 (1992) 448–472.

    E. Daxberger et al., "Laplace Redux: effortless Bayesian deep learning", NeurIPS (2021).

    Examples
    --------
    >>> w = torch.nn.Parameter(torch.tensor([0.8, 1.6], dtype=torch.float64))
    >>> loss = lambda: 2 * ((w - torch.tensor([1.0, 2.0])) ** 2).sum()
    >>> print(laplace(loss, [("w", w)], prior_precision=1.0))
    parameter  value ± standard deviation
    ─────────  ──────────────────────────
    w[0]       0.80 ± 0.45
    w[1]       1.60 ± 0.45
    <BLANKLINE>
    dense, 2 parameters, of which the data determine 1.6
    log evidence -3.60944, up to constants that the loss leaves out
    """
    one_of("form", form, get_args(Form))
    one_of("curvature", curvature, get_args(CurvatureName))
    scale = _read_scale(scale)
    if rank is not None and form != "low-rank":
        raise ArgumentError(f"rank={rank!r} is for form='low-rank', not for {form!r}")
    require_closure(closure)
    read = Read(read_groups(params))
    prior = _read_prior(prior_precision, read)
    rank = min(read.n, positive_count("rank", _RANK if rank is None else rank))

    def computed() -> Laplace:
        with opened(closure, read, residuals=curvature == "ggn") as here:
            return _computed(here, prior, scale, form, rank, seed)

    found = on_every_rank(closure, read.flat, "laplace", computed)
    found = replace(found, parameters=tuple(read.flat.tensors))
    warn_of_bounds(read.flat.read(), read.bounds, found.values)
    if found.distance > _FAR:
        warnings.warn(
            f"the parameters are not at the maximum of the posterior density: it seems to be {found.distance:.2g} "
            f"standard deviations away; minimise loss/scale + ½·prior_precision·‖θ‖² first, and check scale={scale!r}",
            CovarianceWarning,
            stacklevel=2,
        )
    return found


def _read_scale(scale: Any) -> float:
    try:
        number = float(scale)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise ArgumentError(f"scale must be a positive number, got {shown(scale)}; see the docstring for its values")
    return number


def _read_prior(precision: Any, read: Read) -> torch.Tensor:
    """P over the free entries, shape (n,), float64."""
    sizes = [tensor.numel() for tensor in read.flat.tensors]
    try:
        values = torch.as_tensor(precision, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ArgumentError(f"prior_precision must be a number or a tensor, got {shown(precision)}") from None
    if values.dim() == 0:
        whole = values.expand(read.flat.n)
    elif values.shape == (len(sizes),):
        whole = values.repeat_interleave(torch.tensor(sizes))
    elif values.shape == (read.flat.n,):
        whole = values
    else:
        raise ArgumentError(
            f"prior_precision has the shape {tuple(values.shape)}; pass a number, {len(sizes)} numbers (one for each "
            f"parameter tensor), or {read.flat.n} (one for each entry)"
        )
    if not bool(((whole > 0) & whole.isfinite()).all()):
        raise ArgumentError(
            f"prior_precision must be positive and finite, got {float(whole.min()):g}; for no prior use "
            f"optimizer.covariance(closure)"
        )
    return read.free(torch.float64).gradient_to_solver(whole.to(read.device, read.wide)).clone()


def _computed(here: Curvature, prior: torch.Tensor, scale: float, form: str, rank: int, seed: int) -> Laplace:
    build = {"dense": _dense, "diagonal": _diagonal, "low-rank": _low_rank}[form]
    precision = build(here, prior, scale, rank, seed)
    read = here.read
    values = dict(zip(read.names, (tensor.detach().clone() for tensor in read.flat.tensors), strict=True))
    x = read.free(prior.dtype).gradient_to_solver(torch.from_numpy(read.flat.read()).to(prior))
    slope = here.gradient.to(prior) / scale + prior * x
    distance = float(torch.dot(slope, precision.solve(slope)).clamp_min(0).sqrt())
    free = np.ones(read.flat.n, dtype=bool) if read.variables.free is None else read.variables.free
    return Laplace(values, form, here.loss / scale, distance, precision, free)


def _dense(here: Curvature, prior: torch.Tensor, scale: float, rank: int, seed: int) -> Whitened:
    root = prior.sqrt()
    values, vectors = torch.linalg.eigh(here.dense() / scale / root / root[:, None])
    _require_minimum(float(values[0]), here)
    return Whitened(prior, values, vectors.T)


def _diagonal(here: Curvature, prior: torch.Tensor, scale: float, rank: int, seed: int) -> Whitened:
    values = here.diagonal() / scale / prior
    _require_minimum(float(values.min()), here)
    return Whitened(prior, values, None)


def _low_rank(here: Curvature, prior: torch.Tensor, scale: float, rank: int, seed: int) -> Whitened:
    """The largest eigenvalues; those that are not positive are left out."""
    root = prior.sqrt().to(here.gradient)

    def product(v: torch.Tensor) -> torch.Tensor:
        return here.product(v / root) / root / scale

    steps = min(here.n, rank + _MORE) if rank < here.n else here.n
    where: Any = {"dtype": here.gradient.dtype, "device": here.gradient.device}
    tolerance = 0.0 if rank == here.n else 1e-6
    pairs = lanczos(product, here.n, highest=rank, steps=steps, tolerance=tolerance, seed=seed, **where)
    _require_minimum(float(pairs.values[0]), here)
    kept = np.arange(max(len(pairs.values) - rank, 0), len(pairs.values))
    if rank < here.n:
        kept = kept[pairs.values[kept] > 0]
    return Whitened(prior, torch.from_numpy(pairs.values[kept]).to(prior), pairs.vectors(kept))


def _require_minimum(lowest: float, here: Curvature) -> None:
    """lowest: eigenvalue of the curvature in units of the prior."""
    if not lowest > -1:
        raise NotAMinimumError(
            f"the Hessian has the eigenvalue {lowest:.3g} in units of the prior precision; above −1 it would be a "
            f"maximum of the posterior density. Continue the fit, use a larger prior_precision, or, for residuals, "
            f"curvature='ggn'"
        )
