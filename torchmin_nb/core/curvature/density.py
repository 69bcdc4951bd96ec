"""The spectral density of a symmetric matrix from products: stochastic Lanczos quadrature.

B. Ghorbani, S. Krishnan, Y. Xiao, "An investigation into neural net optimization via Hessian eigenvalue density", ICML
(2019), section 2; G. H. Golub, G. Meurant, "Matrices, Moments and Quadrature" (2010), chapters 6 and 11.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from .lanczos import Product, drawn, lanczos

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Density", "Moment", "density_of"]

_POINTS = 1001
_WIDTH = 1 / 200
"""The width of each eigenvalue's bell, relative to the range of the eigenvalues."""
_ONE_VALUE = 1e-5
"""A range below this share of the largest eigenvalue counts as rounding of one eigenvalue."""


class Moment(NamedTuple):
    """A mean over the eigenvalues, estimated from random vectors, and its standard error.

    Attributes
    ----------
    value : float
        The estimate.
    error : float
        Its standard error, from the spread between the vectors: 0 where it is exact, NaN for one vector.

    See Also
    --------
    spectrum : its density computes moments, and it has an example.
    """

    value: float
    error: float


@dataclass(frozen=True, eq=False, repr=False)
class Density:
    """How the eigenvalues of a symmetric matrix are distributed: a smoothed histogram, estimated from products.

    Each eigenvalue counts as a bell curve (Gaussian) of standard deviation `width`.

    Attributes
    ----------
    grid : ndarray of shape (m,)
        Eigenvalues, ascending.
    values : ndarray of shape (m,)
        The density there; its integral is 1.
    width : float
        Standard deviation of the bells.
    nodes : ndarray of shape (probes, steps)
        The nodes of the quadrature, for each random vector.
    weights : ndarray of shape (probes, steps)
        Their weights: a sum of 1 for each vector.
    exact : bool
        Whether the vectors were all n unit vectors, so that nothing is random.

    See Also
    --------
    spectrum : computes it, and has an example.
    """

    grid: NDArray[np.float64]
    values: NDArray[np.float64]
    width: float
    nodes: NDArray[np.float64]
    weights: NDArray[np.float64]
    exact: bool

    def moment(self, power: int = 1) -> Moment:
        """The mean of λ to this power over all eigenvalues λ: the trace divided by n, for power 1.

        Parameters
        ----------
        power : int, optional
            The power. Default 1.

        Returns
        -------
        Moment
            The estimate and its standard error.

        Examples
        --------
        >>> x = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        >>> weights = torch.tensor([1.0, 5.0, 3.0], dtype=torch.float64)
        >>> found = spectrum(lambda: (weights * x**2).sum() / 2, [x], k=1)
        >>> round(found.density.moment().value, 6)
        3.0
        """
        return self._mean(self.nodes**power)

    def share(self, low: float, high: float) -> Moment:
        """The share of all eigenvalues that lie between two numbers.

        Parameters
        ----------
        low : float
            The lower one.
        high : float
            The higher one.

        Returns
        -------
        Moment
            The estimate and its standard error.

        Examples
        --------
        >>> x = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
        >>> weights = torch.tensor([-1.0, 5.0, 3.0, 2.0], dtype=torch.float64)
        >>> found = spectrum(lambda: (weights * x**2).sum() / 2, [x], k=1)
        >>> round(found.density.share(-np.inf, 0).value, 6)
        0.25
        """
        return self._mean(((self.nodes > low) & (self.nodes < high)).astype(np.float64))

    def at(self, grid: NDArray[np.float64], width: float | None = None) -> NDArray[np.float64]:
        """The density at other points, or with bells of another width.

        Parameters
        ----------
        grid : ndarray of shape (m,)
            The points.
        width : float or None, optional
            Standard deviation of the bells. Default: `width`.

        Returns
        -------
        ndarray of shape (m,)
            The density.

        Examples
        --------
        >>> x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        >>> found = spectrum(lambda: (x**2).sum() / 2, [x], k=1)
        >>> found.density.at(np.array([1.0, 2.0]), width=0.1).round(3)
        array([3.989, 0.   ])
        """
        return _smoothed(np.asarray(grid, dtype=np.float64), self.nodes, self.weights, width or self.width)

    def __repr__(self) -> str:
        how = f"all {len(self.nodes)} unit vectors" if self.exact else f"{len(self.nodes)} random vectors"
        mean = self.moment()
        return f"Density(mean eigenvalue {mean.value:.4g} ± {mean.error:.1g}, from {how})"

    def _mean(self, values: NDArray[np.float64]) -> Moment:
        each = (self.weights * values).sum(axis=1)
        error = 0.0 if self.exact else float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else np.nan
        return Moment(float(each.mean()), error)


def density_of(
    product: Product, n: int, *, probes: int, steps: int, seed: int, dtype: torch.dtype, device: torch.device
) -> Density:
    """The density from `probes` random vectors of `steps` products each; exact from n vectors of n products.

    From probes ≥ n on, the n unit vectors take the place of random ones. Memory: steps·n numbers.
    """
    exact, steps = probes >= n, min(steps, n)
    nodes, weights = np.zeros((min(probes, n), steps)), np.zeros((min(probes, n), steps))
    starts = _unit(n, dtype, device) if exact else _random(n, probes, seed, dtype, device)
    for index, start in enumerate(starts):
        pairs = lanczos(product, n, start=start, steps=steps, tolerance=0, restart=False, dtype=dtype, device=device)
        m = len(pairs.values)
        nodes[index, :m], weights[index, :m] = pairs.values, pairs.coordinates[0] ** 2
        nodes[index, m:] = pairs.values[-1]
    low, high = float(nodes.min()), float(nodes.max())
    largest = max(abs(low), abs(high))
    width = _WIDTH * (high - low if high - low > _ONE_VALUE * largest else largest or 1.0)
    grid = np.linspace(low - 4 * width, high + 4 * width, _POINTS)
    return Density(grid, _smoothed(grid, nodes, weights, width), width, nodes, weights, exact)


def _random(n: int, probes: int, seed: int, dtype: torch.dtype, device: torch.device) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(probes):
        yield drawn(n, generator, dtype=dtype, device=device)


def _unit(n: int, dtype: torch.dtype, device: torch.device) -> Iterator[torch.Tensor]:
    for index in range(n):
        unit = torch.zeros(n, dtype=dtype, device=device)
        unit[index] = 1
        yield unit


def _smoothed(
    grid: NDArray[np.float64], nodes: NDArray[np.float64], weights: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    """The sum of the bells, in chunks of nodes, of which those without weight are left out."""
    kept = weights > 0
    centres, heights = nodes[kept], weights[kept] / (len(nodes) * width * np.sqrt(2 * np.pi))
    parts = zip(*(np.array_split(each, ceil(centres.size / 256)) for each in (centres, heights)), strict=True)
    return sum(
        (np.exp(-0.5 * ((grid[:, None] - some) / width) ** 2) @ high for some, high in parts), start=np.zeros(grid.size)
    )
