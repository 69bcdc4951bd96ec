"""The posterior distribution of the parameters: predictions, draws, evidence."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from ...errors import ArgumentError, CovarianceWarning
from ..covariance.delta import as_value, connected, linearised
from ..covariance.estimates import Bands, Estimate, bands_of, entry_names, rounded
from ..display.html import html, html_table
from ..display.tables import text_table
from ..validation import count as positive_count
from .whitened import Whitened

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Laplace"]

_SHOWN = 40
_DECADES = 12
"""The prior precision with the most evidence is searched over so many decades on each side of the present one."""


@dataclass(frozen=True, eq=False, repr=False)
class Laplace:
    """A normal distribution N(θ, (H/scale + P)⁻¹) of the parameters around their values θ. Shown, it is a table.

    Attributes
    ----------
    values : dict of str to torch.Tensor
        Copies of the parameters at the maximum of the posterior density, by name.
    form : str
        "dense", "diagonal" or "low-rank".
    loss : float
        The loss over ``scale``: the negative log-likelihood, up to what it leaves out.
    distance : float
        How far the maximum of this distribution seems to be from `values`, in standard deviations: it should be 0.
    precision : Whitened
        The precision matrix over the free entries.
    free : ndarray of shape (N,)
        bool, False for fixed entries, which have no variance.
    parameters : tuple of torch.Tensor
        The fitted tensors themselves, for functions that read them; empty in a copy that was loaded.

    See Also
    --------
    laplace : computes it, and has an example.
    """

    values: Mapping[str, torch.Tensor]
    form: str
    loss: float
    distance: float
    precision: Whitened
    free: NDArray[np.bool_]
    parameters: tuple[torch.Tensor, ...] = ()

    @property
    def log_evidence(self) -> float:
        """The logarithm of the evidence p(data), in Laplace's approximation. It compares models and priors.

        It is −loss/scale − ½ θᵀPθ + ½ log|P| − ½ log|H/scale + P|. Constants that the loss leaves out, such as
        m/2·log(2πσ²), are left out here too: add them before you compare different `scale`.
        """
        return self._log_evidence(1.0)

    @property
    def effective_parameters(self) -> float:
        """How many parameters the data determine, rather than the prior: MacKay's γ, between 0 and n."""
        return float((self.precision.values / (1 + self.precision.values)).sum())

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The covariance of the parameters, shape (N, N), float64. Fixed entries have zeros."""
        root = self.spread(np.eye(self.free.size))
        matrix: NDArray[np.float64] = root @ root.T
        return matrix

    def standard_deviations(self) -> dict[str, torch.Tensor]:
        """The standard deviations of the parameters by name: float64 tensors of the parameters' shapes."""
        whole = torch.from_numpy(self._embedded(self.precision.variances().sqrt()))
        return self._named(whole[None], ())

    def best_prior_precision(self) -> float | torch.Tensor:
        """The prior precision with the most evidence, with the parameters as they are: one factor for the whole prior.

        A number if all parameters have the same prior precision, else a tensor of N entries. The parameters depend on
        the prior: fit them with the new one, call `laplace` again, and repeat until it hardly changes (MacKay 1992).
        """
        found = minimize_scalar(
            lambda log: -self._log_evidence(math.exp(log)),
            bounds=(-_DECADES * math.log(10), _DECADES * math.log(10)),
            method="bounded",
            options={"xatol": 1e-9},
        )
        if abs(float(found.x)) > (_DECADES - 0.1) * math.log(10):
            warnings.warn(
                f"the evidence has no maximum within a factor of 1e{_DECADES} of the present prior precision: the data "
                f"determine no parameter, or all of them are 0",
                CovarianceWarning,
                stacklevel=2,
            )
        best = math.exp(float(found.x)) * self.precision.prior.cpu()
        if bool((best == best[0]).all()):
            return float(best[0])
        whole = torch.ones(self.free.size, dtype=torch.float64)
        whole[torch.from_numpy(self.free)] = best.double()
        return whole

    def predict(self, function: Callable[..., torch.Tensor], *, samples: int | None = None, seed: int = 0) -> Estimate:
        """Mean, standard deviation and covariance of anything that is computed from the parameters.

        By default of the function made linear in the parameters, which for networks is better than samples of the
        network itself (Immer et al. 2021). The noise of new data is not contained: add its variance.

        Parameters
        ----------
        function : callable
            ``lambda: model(x)`` reads the parameters, as a closure does; or its arguments have the names of parameters.
            Returns a tensor of k elements.
        samples : int or None, optional
            Compute mean and variance from so many draws of the parameters instead. Default None.
        seed : int, optional
            Seed of these draws. Default 0.

        Returns
        -------
        Estimate
            The mean as ``value``, ``standard_error`` and ``variance`` of the prediction, and the ``covariance``.

        Raises
        ------
        ArgumentError
            If `samples` is less than 2, or an argument of the function is not the name of a parameter.

        References
        ----------
        A. Immer, M. Korzepa, M. Bauer, "Improving predictions of Bayesian neural nets via local linearization", AISTATS
        (2021).

        Examples
        --------
        >>> w = torch.nn.Parameter(torch.tensor([0.8, 1.6], dtype=torch.float64))
        >>> loss = lambda: 2 * ((w - torch.tensor([1.0, 2.0])) ** 2).sum()
        >>> laplace(loss, [("w", w)], prior_precision=1.0).predict(lambda w: w.sum())
        2.40 ± 0.63
        """
        if samples is None:
            return linearised(function, self.values, self.parameters).estimate(self.spread)
        if positive_count("samples", samples) < 2:
            raise ArgumentError("samples must be at least 2, because a variance is computed from them, got 1")
        draws = self._draws(samples, torch.Generator().manual_seed(seed))
        with connected(function, self.values, self.parameters) as (call, flat), torch.no_grad():
            results = []
            for draw in draws.numpy():
                flat.write(draw)
                results.append(as_value(call()))
        rows = torch.stack(results)
        centred = (rows - rows.mean(0)).reshape(samples, -1) / math.sqrt(samples - 1)
        return Estimate(rows.mean(0), rows.std(0), centred.T.numpy())

    def bands(self, function: Callable[..., torch.Tensor], x: Any, *, level: float = 0.95, sigma: Any = None) -> Bands:
        """The band of a prediction, and the interval for new data; draw them with `torchmin_nb.views.bands_figure`.

        Parameters
        ----------
        function : callable
            ``function(x)`` reads the parameters, such as a model; further arguments have the names of parameters.
        x : torch.Tensor
            Where to predict.
        level : float, optional
            The probability of each interval, pointwise. Default 0.95.
        sigma : float, tensor or None, optional
            The standard deviation of a new measurement at x. Default None: no interval for new data.

        Returns
        -------
        Bands
            Prediction, its standard deviation, and intervals of the normal distribution.

        Examples
        --------
        >>> w = torch.nn.Parameter(torch.tensor(0.8, dtype=torch.float64))
        >>> found = laplace(lambda: 2 * (w - 1) ** 2, [("w", w)], prior_precision=1.0)
        >>> found.bands(lambda x, w: w * x, torch.tensor([0.0, 1.0]))
        x  prediction        low    high
        ─  ──────────  ─────────  ──────
        0           0          0       0
        1         0.8  -0.076523  1.6765
        """
        estimate = linearised(function, self.values, self.parameters, x).estimate(self.spread)
        return bands_of(estimate, x, level, sigma, None)

    def samples(self, k: int, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
        """Draws from the distribution, as for ``torch.func.functional_call`` under ``vmap``.

        Parameters
        ----------
        k : int
            How many.
        generator : torch.Generator or None, optional
            Of the random numbers, on the CPU. Default: a new one with seed 0.

        Returns
        -------
        dict of str to torch.Tensor
            For each parameter a tensor of shape ``(k, *shape)``, in its dtype and on its device.

        Examples
        --------
        >>> w = torch.nn.Parameter(torch.tensor([0.8, 1.6], dtype=torch.float64))
        >>> found = laplace(lambda: 2 * ((w - torch.tensor([1.0, 2.0])) ** 2).sum(), [("w", w)])
        >>> found.samples(1000)["w"].mean(0).round(decimals=1)
        tensor([0.8000, 1.6000], dtype=torch.float64)
        """
        drawn = self._named(self._draws(positive_count("k", k), generator), (k,))
        return {name: drawn[name].to(value) for name, value in self.values.items()}

    def spread(self, jacobian: NDArray[np.float64]) -> NDArray[np.float64]:
        """A matrix Z with Z Zᵀ = J C Jᵀ, the covariance of what has the Jacobian J.

        Parameters
        ----------
        jacobian : ndarray of shape (k, N)
            J, float64.

        Returns
        -------
        ndarray of shape (k, r)
            Z.

        Examples
        --------
        >>> w = torch.nn.Parameter(torch.tensor([0.8, 1.6], dtype=torch.float64))
        >>> found = laplace(lambda: 2 * ((w - torch.tensor([1.0, 2.0])) ** 2).sum(), [("w", w)])
        >>> (found.spread(np.array([[1.0, 1.0]])) ** 2).sum(axis=1)
        array([0.4])
        """
        rows = torch.from_numpy(np.ascontiguousarray(jacobian[:, self.free])).to(self.precision.prior)
        return np.asarray(self.precision.root(rows).cpu().numpy())

    def __repr__(self) -> str:
        rows = [(name, f"{value} ± {error}") for name, value, error in self._shown()]
        table = text_table([("parameter", "value ± standard deviation"), *rows], align="<<")
        return "\n".join([table + self._rest(), "", *self._facts()])

    def _repr_html_(self) -> str:
        rows = [("parameter", "value", "standard deviation"), *self._shown()]
        return html(
            "{table}<p>{rest}</p><p>{facts}</p>",
            table=html_table(rows, ("left", "right", "right")),
            rest=self._rest().strip(),
            facts=" · ".join(self._facts()),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "parameters": ()}

    def _log_evidence(self, factor: float) -> float:
        """With the prior precision multiplied by a factor, at the same parameters."""
        penalty = 0.5 * factor * float((self.precision.prior * self._free_values() ** 2).sum())
        return -self.loss - penalty - 0.5 * float(torch.log1p(self.precision.values / factor).sum())

    def _draws(self, k: int, generator: torch.Generator | None) -> torch.Tensor:
        """Draws of all parameters, shape (k, N), float64."""
        generator = generator or torch.Generator().manual_seed(0)
        normal = torch.randn(k, self.precision.prior.numel(), generator=generator, dtype=torch.float64)
        moved = self._embedded(self.precision.transformed(normal.to(self.precision.prior)))
        return self._flat_values() + torch.from_numpy(moved)

    def _flat_values(self) -> torch.Tensor:
        return torch.cat([value.detach().reshape(-1).to("cpu", torch.float64) for value in self.values.values()])

    def _free_values(self) -> torch.Tensor:
        return self._flat_values()[torch.from_numpy(self.free)].to(self.precision.prior)

    def _embedded(self, rows: torch.Tensor) -> NDArray[np.float64]:
        """Numbers of the free entries, along the last axis, with zeros for the fixed ones."""
        whole = np.zeros((*rows.shape[:-1], self.free.size))
        whole[..., self.free] = rows.cpu().numpy()
        return whole

    def _named(self, rows: torch.Tensor, before: tuple[int, ...]) -> dict[str, torch.Tensor]:
        pieces = rows.split([value.numel() for value in self.values.values()], dim=-1)
        return {
            name: piece.reshape(*before, *value.shape).clone()
            for (name, value), piece in zip(self.values.items(), pieces, strict=True)
        }

    def _shown(self) -> list[tuple[str, str, str]]:
        errors = self._embedded(self.precision.variances().sqrt())[:_SHOWN].tolist()
        names, numbers = entry_names(self.values, _SHOWN), self._flat_values()[:_SHOWN].tolist()
        return [(name, *rounded(*pair)) for name, *pair in zip(names, numbers, errors, strict=True)]

    def _rest(self) -> str:
        more = self.free.size - _SHOWN
        return f"\nand {more:,} more: see standard_deviations()" if more > 0 else ""

    def _facts(self) -> list[str]:
        rank = f", rank {len(self.precision.values)}" if self.form == "low-rank" else ""
        return [
            f"{self.form}{rank}, {self.precision.prior.numel():,} parameters, of which the data determine "
            f"{self.effective_parameters:.3g}",
            f"log evidence {self.log_evidence:.6g}, up to constants that the loss leaves out",
        ]
