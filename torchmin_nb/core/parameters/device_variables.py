"""The variables of a solver on the device: like `Variables`, with tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .variables import Variables

__all__ = ["DeviceVariables"]


class DeviceVariables:
    """Translates between x, shape (n,), and z, the free entries of x over their scale, both tensors.

    dtype, device: of both. `plain`: z is x. `lower` and `upper` are bounds on z, or None.
    """

    def __init__(self, variables: Variables, dtype: torch.dtype, device: torch.device):
        self.dtype, self.device = dtype, device
        self.n, self.plain = variables.n, variables.plain
        self._start = variables.start
        self.lower = self.upper = None
        if variables.bounds is not None:
            self.lower, self.upper = self._tensor(variables.bounds.lb), self._tensor(variables.bounds.ub)
        self._free = None if variables.free is None else torch.from_numpy(variables.free).to(device)
        self._scale = None if variables.free_scale is None else self._tensor(variables.free_scale)
        self._base = self._tensor(variables.base) if self._free is not None else None
        self._box = None
        if self._scale is not None and variables.box is not None:
            self._box = self._tensor(variables.box.lb), self._tensor(variables.box.ub)

    @property
    def start(self) -> torch.Tensor:
        """z at the start, a new tensor."""
        return self._tensor(self._start)

    def to_solver(self, x: torch.Tensor) -> torch.Tensor:
        """z for x; x itself if the two are the same."""
        picked = x if self._free is None else x[self._free]
        return picked if self._scale is None else picked / self._scale

    def to_user(self, z: torch.Tensor) -> torch.Tensor:
        """x for z; z itself if the two are the same. Clipped to the bounds after the rounding of the scale."""
        if self.plain:
            return z
        x = self._embed(self._grown(z), self._base)
        return x if self._box is None else torch.clamp(x, *self._box)

    def direction_to_user(self, v: torch.Tensor) -> torch.Tensor:
        """A direction in z as one in x."""
        if self.plain:
            return v
        return self._embed(self._grown(v), None)

    def gradient_to_solver(self, g: torch.Tensor) -> torch.Tensor:
        """A gradient with respect to x as one with respect to z."""
        if self.plain:
            return g
        picked = g if self._free is None else g[self._free]
        return picked if self._scale is None else picked * self._scale

    def gradient_to_user(self, g: torch.Tensor) -> torch.Tensor:
        """The inverse of `gradient_to_solver`, with zeros along fixed variables."""
        return self._embed(g if self._scale is None else g / self._scale, None)

    def hessian_to_solver(self, matrix: torch.Tensor) -> torch.Tensor:
        """A Hessian with respect to x as one with respect to z."""
        if self._free is not None:
            matrix = matrix[self._free][:, self._free]
        return matrix if self._scale is None else matrix * self._scale * self._scale[:, None]

    def rows_to_solver(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (k, n) of a Jacobian with respect to x as rows with respect to z."""
        picked = rows if self._free is None else rows[:, self._free]
        return picked if self._scale is None else picked * self._scale

    def mask_to_solver(self, mask: NDArray[np.bool_]) -> torch.Tensor:
        """A mask over the entries of x as a mask over the entries of z."""
        whole = torch.from_numpy(mask).to(self.device)
        return whole if self._free is None else whole[self._free]

    @property
    def scale(self) -> torch.Tensor | float:
        """The scale of x: shape (n,), or 1."""
        return 1.0 if self._scale is None else self._embed(self._scale, torch.ones(()).to(self._scale))

    def _grown(self, z: torch.Tensor) -> torch.Tensor:
        return z if self._scale is None else z * self._scale

    def _embed(self, free: torch.Tensor, rest: torch.Tensor | None) -> torch.Tensor:
        """A vector over x from its free entries; the fixed entries are `rest`, or 0."""
        if self._free is None:
            return free
        whole = torch.zeros(self._free.numel(), dtype=self.dtype, device=self.device)
        if rest is not None:
            whole.copy_(rest)
        whole[self._free] = free
        return whole

    def _tensor(self, values: NDArray[np.float64]) -> torch.Tensor:
        return torch.tensor(values, device=self.device, dtype=self.dtype)
