"""The spectrum of the Hessian of a closure: extreme eigenvalues with their vectors, and the density of all."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.autodiff.closure import Closure, require_closure
from ..core.curvature.density import Density, density_of
from ..core.curvature.lanczos import lanczos
from ..core.curvature.products import Read, opened
from ..core.display.html import html, html_table
from ..core.display.tables import text_table
from ..core.optimizers.several_processes import on_every_rank
from ..core.parameters.groups import read_groups
from ..core.validation import count as positive_count
from ..errors import ArgumentError, ConvergenceWarning

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Spectrum", "spectrum"]

_STEPS = 300
_PROBES, _PROBE_STEPS = 10, 80
_ROUNDING = 64


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum:
    """Extreme eigenvalues of a Hessian with their vectors, and the density of all. Shown, it is a table.

    Attributes
    ----------
    values : ndarray of shape (m,)
        The k lowest and the k highest eigenvalues, float64, ascending; all n where there are at most 2k.
    residuals : ndarray of shape (m,)
        ‖H v − λ v‖ for each. Within this distance of the value there is an eigenvalue.
    vectors : torch.Tensor of shape (m, N)
        The unit eigenvectors, one in each row, in the order of the flat parameter vector; fixed entries have zeros.
    shapes : dict of str to torch.Size
        The parameters' shapes, by name.
    density : Density or None
        The density of all eigenvalues, if it was asked for.
    n : int
        The number of eigenvalues: of the parameters' entries that are not fixed.
    products : int
        How many Hessian-vector products were computed.
    converged : bool
        Whether all `residuals` are within the tolerance.
    rounding : float
        Eigenvalues nearer to 0 than this cannot be distinguished from 0.

    See Also
    --------
    spectrum : computes it, and has an example.
    """

    values: NDArray[np.float64]
    residuals: NDArray[np.float64]
    vectors: torch.Tensor
    shapes: Mapping[str, torch.Size]
    density: Density | None
    n: int
    products: int
    converged: bool
    rounding: float

    @property
    def condition_number(self) -> float:
        """The highest eigenvalue over the lowest one; infinite if that is not positive."""
        lowest = float(self.values[0])
        return float(self.values[-1]) / lowest if lowest > self.rounding else np.inf

    @property
    def negative(self) -> NDArray[np.float64]:
        """Those of the values that are negative, beyond rounding. There may be more of them if it has k."""
        return self.values[self.values < -self.rounding]

    def vector(self, index: int) -> dict[str, torch.Tensor]:
        """An eigenvector as tensors of the parameters' shapes, by name.

        Parameters
        ----------
        index : int
            The position of its value; -1 is the highest.

        Returns
        -------
        dict of str to torch.Tensor
            Views of `vectors`.

        Examples
        --------
        >>> layer = torch.nn.Linear(2, 1).double()
        >>> inputs = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> found = spectrum(lambda: (layer(inputs) ** 2).mean(), layer, k=1)
        >>> found.vector(-1)["weight"].abs().round(decimals=2)
        tensor([[0.9400, 0.0400]], dtype=torch.float64)
        """
        pieces = self.vectors[index].split([shape.numel() for shape in self.shapes.values()])
        return {name: piece.reshape(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}

    def shares(self, index: int) -> dict[str, float]:
        """Where an eigenvector lives: the share of each parameter in its squared length, by name.

        Parameters
        ----------
        index : int
            The position of its value; -1 is the highest.

        Returns
        -------
        dict of str to float
            Numbers that add up to 1.

        Examples
        --------
        >>> layer = torch.nn.Linear(2, 1).double()
        >>> inputs = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> found = spectrum(lambda: (layer(inputs) ** 2).mean(), layer, k=1)
        >>> {name: round(share, 2) for name, share in found.shares(-1).items()}
        {'weight': 0.88, 'bias': 0.12}
        """
        return {name: float(part.square().sum()) for name, part in self.vector(index).items()}

    def __repr__(self) -> str:
        return "\n".join([text_table(self._rows(), align=">><"), "", *self._facts()])

    def _repr_html_(self) -> str:
        return html(
            "{table}<p>{facts}</p>",
            table=html_table(self._rows(), ("right", "right", "left")),
            facts=" · ".join(self._facts()),
        )

    def _rows(self) -> list[tuple[str, str, str]]:
        rows = [
            (f"{value:.6g}", f"{residual:.1g}", _largest_shares(self.shares(index)))
            for index, (value, residual) in enumerate(zip(self.values, self.residuals, strict=True))
        ]
        return [("eigenvalue", "error below", "where its vector is"), *rows]

    def _facts(self) -> list[str]:
        condition, few = self.condition_number, len(self.values) < self.n
        most = " or more" if few and len(self.negative) >= len(self.values) // 2 else ""
        facts = [
            f"{self.n:,} parameters, {self.products:,} Hessian-vector products",
            f"condition number {condition:.3g}" if np.isfinite(condition) else "not positive definite",
            f"negative eigenvalues: {len(self.negative)}{most}",
        ]
        if self.density is not None:
            mean = self.density.moment()
            facts.append(f"mean eigenvalue {mean.value:.4g} ± {mean.error:.1g}")
        return facts if self.converged else [*facts, "not converged: see the column of errors, and use more steps="]


def spectrum(
    closure: Closure,
    params: Any,
    k: int = 3,
    *,
    density: bool | int = True,
    steps: int | None = None,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> Spectrum:
    """Extreme eigenvalues and eigenvectors of a Hessian, and the density of all eigenvalues, from products alone.

    Lanczos iterations with full reorthogonalisation at the parameters' present values; no N×N array is made.
    Parameters, ``.grad``, buffers and random numbers are left as they were.

    Parameters
    ----------
    closure : callable
        Computes the loss from the parameters, as for ``step(closure)``; a `full_batch` too. It needs the same data in
        each call.
    params : iterable of Tensor
        The parameters as for torch.optim: tensors, pairs (name, tensor), param groups with bounds; or a module. Entries
        with equal bounds are fixed: they are left out.
    k : int, optional
        How many of the lowest and of the highest eigenvalues. Default 3.
    density : bool or int, optional
        Whether to estimate the density, or the number of random vectors for it. Each takes 80 products; from n on, unit
        vectors take their place, and the density is exact. Default True: 10 vectors.
    steps : int or None, optional
        Most products for the eigenvalues; the memory is ``steps`` vectors of the parameters' size and dtype. Default:
        300, and at least 4k.
    tolerance : float, optional
        Iterations end when all residuals are below ``tolerance`` times the largest absolute eigenvalue. Default 1e-4.
    seed : int, optional
        Seed of the random vectors. Default 0.

    Returns
    -------
    Spectrum
        Values with bounds on their errors, vectors, density.

    Raises
    ------
    ArgumentError
        If k or steps is not a positive integer, density negative, or the tolerance not positive.
    ClosureError
        If the loss or its second derivatives are not finite, or the closure cannot be used.

    Warns
    -----
    ConvergenceWarning
        If the residuals are not below the tolerance after all steps.

    References
    ----------
    B. Ghorbani, S. Krishnan, Y. Xiao, "An investigation into neural net optimization via Hessian eigenvalue density",
    ICML (2019).

    G. H. Golub, C. F. Van Loan, "Matrix Computations" (2013), section 10.3.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    >>> weights = torch.tensor([-1.0, 5.0, 3.0, 2.0], dtype=torch.float64)
    >>> found = spectrum(lambda: (weights * x**2).sum() / 2, [("x", x)], k=1)
    >>> found.values.round(6)
    array([-1.,  5.])
    >>> found.vector(-1)["x"].abs().round(decimals=3)
    tensor([0., 1., 0., 0.], dtype=torch.float64)
    """
    k = positive_count("k", k)
    steps = positive_count("steps", max(_STEPS, 4 * k) if steps is None else steps)
    if isinstance(density, bool):
        probes = _PROBES if density else 0
    else:
        probes = positive_count("density, if it is not True or False,", density) if density else 0
    if not tolerance > 0:
        raise ArgumentError(f"tolerance must be positive, got {tolerance!r}")
    require_closure(closure)
    read = Read(read_groups(params))

    def computed() -> Spectrum:
        return _computed(closure, read, k, probes, steps, tolerance, seed)

    found = on_every_rank(closure, read.flat, "spectrum", computed)
    if not found.converged:
        worst = float(found.residuals.max())
        warnings.warn(
            f"the eigenvalues have not converged: errors up to {worst:.2g} after {steps} steps; use more steps, a "
            f"smaller k, or a larger tolerance",
            ConvergenceWarning,
            stacklevel=2,
        )
    return found


def _computed(closure: Closure, read: Read, k: int, probes: int, steps: int, tolerance: float, seed: int) -> Spectrum:
    where: Any = {"dtype": read.dtype, "device": read.device}
    with opened(closure, read) as curvature:
        n, product = curvature.n, curvature.product
        pairs = lanczos(product, n, lowest=k, highest=k, steps=steps, tolerance=tolerance, seed=seed, **where)
        m = len(pairs.values)
        chosen = np.unique([*range(min(k, m)), *range(max(m - k, 0), m)])
        whole = torch.stack([read.free().direction_to_user(row) for row in pairs.vectors(chosen)])
        # Another seed than that of the eigenvalues, whose first vector would be the same.
        found = density_of(product, n, probes=probes, steps=_PROBE_STEPS, seed=seed + 1, **where) if probes else None
    shapes = {name: tensor.shape for name, tensor in zip(read.names, read.flat.tensors, strict=True)}
    rounding = _ROUNDING * read.flat.eps * float(np.abs(pairs.values).max())
    return Spectrum(
        pairs.values[chosen],
        pairs.residuals[chosen],
        whole,
        shapes,
        found,
        n,
        curvature.count,
        pairs.converged,
        rounding,
    )


def _largest_shares(shares: Mapping[str, float], most: int = 2) -> str:
    """The parameters with the largest shares, in words."""
    largest: Sequence[tuple[str, float]] = sorted(shares.items(), key=lambda pair: -pair[1])[:most]
    return ", ".join(f"{name} {share:.0%}" for name, share in largest if share >= 0.005)
