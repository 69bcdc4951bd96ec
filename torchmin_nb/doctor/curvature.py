"""The Hessian at the end point by products: extreme eigenvalues, null space, the decrease of a Newton step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.curvature.lanczos import Product, RitzPairs, lanczos
from .laboratory import Laboratory

__all__ = ["TINY", "Curvature", "Scaling", "curvature_of", "free_of_bounds", "refined", "scaling_of"]

Array = NDArray[np.float64]

_WHOLE = 200
"""Up to this many variables, all eigenvalues are computed, if the budget allows the products."""
_STEPS = 60
_NULL, _GAP = 1e-8, 1e-4
"""Of many variables, a direction counts as flat below the first part of the largest curvature, if all other curvatures
that were seen are above the second."""
_WEAK = 1e-5
"""Relative curvature, in the best scale, of directions that may be flat."""
_OF_GRADIENT, _AT_SUCCESS = 10, 6
"""Products that the decrease of a Newton step may take; fewer where a method says that little is left."""
TINY = 1e-3
"""A point shorter than this says nothing about the length of a step that counts."""


@dataclass(frozen=True, eq=False)
class Curvature:
    """What products say of the Hessian in the solver's variables, without those at their bounds.

    lowest, highest: extreme eigenvalues, estimated from inside unless `whole`. direction: shape (n,), a unit vector of
    the lowest, of the scaled Hessian if `weakest` is below 0. predicted: by how much a Newton step would lower the
    loss; concave: its part along negative curvature. step: its length, relative to the point's. hidden: the decrease
    with slopes that rounding alone could make. null: directions (k, n) of almost no curvature in the best scale if
    `whole`, the first `exact` of none at all; else one or none. condition: the largest over the smallest eigenvalue, in
    size, that is not zero. stride: shape (n,), the part of the Newton step along the curvature that makes it longest.
    matrix: the Hessian, shape (n, n), if `whole`; own: then all curvatures in the best scale, by size, the smallest
    first, relative to the largest; weakest: the lowest of them, if it is negative beyond rounding; else 0.
    """

    lowest: float
    highest: float
    direction: Array
    predicted: float
    step: float
    null: Array
    condition: float
    stride: Array
    whole: bool
    matrix: Array | None = None
    hidden: float = 0.0
    weakest: float = 0.0
    exact: int = 0
    own: Array | None = None
    concave: float = 0.0


@dataclass(frozen=True, eq=False)
class Scaling:
    """A better scale of the variables: sizes (n,), and the condition number before and after."""

    sizes: Array
    before: float
    after: float


def free_of_bounds(lab: Laboratory, gradient: Array, loss: float) -> NDArray[np.bool_]:
    """The variables that are not held at a bound by their slope, shape (n,). loss: the size of its changes.

    A variable a little inside counts as held too, as an interior-point method leaves it, if the way to the bound would
    gain nothing that counts.
    """
    bounds, z = lab.variables.bounds, lab.z
    if bounds is None:
        return np.ones(z.size, dtype=bool)
    room = np.where(gradient >= 0, z - bounds.lb, bounds.ub - z)
    size = 1 + np.abs(z)
    inside = (room <= 1e-3 * size) & (np.abs(gradient) * room <= 1e-5 * loss)
    return np.asarray(~((room <= 1e-8 * size) | inside))


def curvature_of(
    lab: Laboratory,
    gradient: Array,
    free: NDArray[np.bool_],
    *,
    reserve: int = 0,
    extremes: bool = True,
    little_left: bool = False,
    rounding: float = 0.0,
) -> Curvature | None:
    """The curvature at the examined point. gradient: there. reserve: evaluations to leave. None if too few are left.

    free: the variables that no bound holds.
    extremes: whether the extreme eigenvalues are sought too, from a random start. little_left: whether a method says
    so. rounding: of the loss: a curvature that changes it by less over the size of the point is none.
    """
    n = int(free.sum())
    affordable = (lab.left - reserve - 1) // (2 if lab._differences else 1)
    if not n or affordable < min(n, 4):
        return None
    g, product = gradient[free], _restricted(lab, free)
    if n <= min(_WHOLE, affordable):
        rows = [product(unit) for unit in torch.eye(n, dtype=torch.float64)]
        return _whole(lab, torch.stack(rows).numpy(), g, free, rounding)
    start = torch.from_numpy(g.copy())
    steps = min(_AT_SUCCESS if little_left else _OF_GRADIENT, affordable // 2 if extremes else affordable)
    along = lanczos(product, n, steps=steps, tolerance=0.0, start=start) if np.any(g) else None
    if along is not None and not extremes:
        return _read(lab, along, along, g, free)
    steps = min(_STEPS, affordable - (steps if along else 0))
    pairs = lanczos(product, n, lowest=1, highest=1, steps=steps, tolerance=1e-4)
    return _read(lab, pairs, along, g, free)


def _restricted(lab: Laboratory, free: NDArray[np.bool_]) -> Product:
    """The products between the free variables."""

    def product(v: torch.Tensor) -> torch.Tensor:
        whole = np.zeros(free.size)
        whole[free] = v.numpy()
        return torch.from_numpy(lab.product(whole)[free])

    return product


def refined(lab: Laboratory, curvature: Curvature, free: NDArray[np.bool_], reserve: int) -> Array:
    """The direction of `null`, unless `whole`, made better by what is left but `reserve`; shape (k, n), k = 0 if the
    curvature along it then is not flat."""
    n, size = int(free.sum()), max(abs(curvature.lowest), abs(curvature.highest))
    steps = min(n, (lab.left - reserve) // (2 if lab._differences else 1))
    if steps < 2:
        return curvature.null[:0]
    start = torch.from_numpy(curvature.null[0][free].copy())
    pairs = lanczos(_restricted(lab, free), n, lowest=1, highest=1, steps=steps, tolerance=0.0, start=start)
    found = _weakest(pairs, free)
    weak = np.sort(np.abs(pairs.values))
    return found if weak[0] <= _NULL * size and weak[1] >= _GAP * size else found[:0]


def _weakest(pairs: RitzPairs, free: NDArray[np.bool_]) -> Array:
    """The direction of the smallest curvature, shape (1, n)."""
    row = np.zeros((1, free.size))
    row[0, free] = pairs.vectors(np.array([int(np.argmin(np.abs(pairs.values)))]))[0].numpy()
    return row


def _whole(lab: Laboratory, matrix: Array, g: Array, free: NDArray[np.bool_], rounding: float) -> Curvature:
    """From all products. The decrease and the null space do not depend on the scale of the variables."""
    matrix = (matrix + matrix.T) / 2
    if not np.isfinite(matrix).all():
        raise np.linalg.LinAlgError("the Hessian is not finite")
    values, vectors = np.linalg.eigh(matrix)
    eps, size = lab.flat.eps, max(abs(float(values[0])), abs(float(values[-1])))
    root = _root(matrix)
    scaled = matrix * np.outer(root, root)
    own, columns = np.linalg.eigh(scaled)
    limit = 10 * eps * max(len(g), 10) * max(float(np.abs(own).max()), 1e-300)
    z = lab.z[free]
    blind = 3 * eps * np.abs(columns.T) @ (np.abs(scaled) @ np.abs(z / root))
    gains, step, hidden = _newton(columns.T @ (root * g), own, blind, float(np.linalg.norm(1 + np.abs(z / root))))
    flat = np.abs(own) <= max(limit, _WEAK * float(np.abs(own).max()))
    flat |= np.abs(own) * (np.abs(columns.T) @ np.abs(z / root)) ** 2 <= rounding
    largest = float(np.abs(own).max())
    weakest = float(own[0]) / largest if own[0] < -limit else 0.0
    flattest = np.argsort(np.abs(own))[: int(flat.sum())]
    null = np.zeros((len(flattest), free.size))
    null[:, free] = (root[:, None] * columns[:, flattest]).T
    null /= np.maximum(np.linalg.norm(null, axis=1, keepdims=True), 1e-300)
    known = np.abs(values)[np.abs(values) > 10 * eps * len(g) * size]
    condition = size / float(known.min()) if known.size else math.inf
    if known.size < int((np.abs(own) > limit).sum()):  # small eigenvalues are lost in the rounding of large ones
        condition = max(condition, 1 / eps)
    direction = np.zeros(free.size)
    direction[free] = vectors[:, 0] if weakest >= 0 else root * columns[:, 0]
    direction /= max(float(np.linalg.norm(direction)), 1e-300)
    stride = np.zeros(free.size)
    sure = np.abs(values) > 10 * eps * max(len(g), 10) * size
    stride[free] = _stride(np.where(sure, vectors.T @ g, 0.0), values, vectors.T)
    size = float(np.linalg.norm(z))
    relative = step / float(np.linalg.norm(z / root)) if size > TINY else step * float(root.max())
    return Curvature(
        float(values[0]),
        float(values[-1]),
        direction,
        float(gains.sum()),
        relative,
        null,
        condition,
        stride,
        whole=True,
        matrix=matrix,
        hidden=hidden,
        weakest=weakest,
        exact=int((np.abs(own) <= limit).sum()),
        own=np.sort(np.abs(own)) / max(largest, 1e-300),
        concave=float(gains[own < 0].sum()),
    )


def _root(matrix: Array) -> Array:
    """1/√diagonal, the scale in which each variable has curvature 1."""
    diagonal = np.abs(np.diag(matrix))
    largest = float(diagonal.max())
    return 1 / np.sqrt(np.where(diagonal > 1e-100 * largest, diagonal, largest or 1.0))


def _read(lab: Laboratory, pairs: RitzPairs, along: RitzPairs | None, g: Array, free: NDArray[np.bool_]) -> Curvature:
    """From the Lanczos iterations with a random start, and with the gradient."""
    values = pairs.values if along is None else np.concatenate([pairs.values, along.values])
    source = pairs if along is None or pairs.values[0] <= along.values[0] else along
    lowest, highest = float(values.min()), float(values.max())
    size = max(abs(lowest), abs(highest))
    direction = np.zeros(free.size)
    direction[free] = source.vectors(np.array([0]))[0].numpy()
    length = float(np.linalg.norm(lab.z))
    reach = 1 + length
    predicted = step = hidden = 0.0
    stride = np.zeros(free.size)
    if along is not None:
        slopes = along.coordinates.T @ (along.basis @ torch.from_numpy(g)).numpy()
        blind = np.full(len(slopes), 3 * lab.flat.eps * size * float(np.linalg.norm(lab.z)))
        gains, step, hidden = _newton(slopes, along.values, blind, reach)
        predicted = float(gains.sum())
        ways = along.vectors(np.arange(len(slopes))).numpy()
        stride[free] = _stride(slopes, along.values, ways)
    relative = step / (length if length > TINY else 1.0)
    known = np.abs(values)[np.abs(values) > 100 * lab.flat.eps * size * max(len(g), 10)]
    condition = size / float(known.min()) if known.size else math.inf
    weak = np.sort(np.abs(pairs.values))
    isolated = len(weak) > 1 and weak[0] <= 0.1 * _GAP * size and weak[1] >= _GAP * size
    null = _weakest(pairs, free)[: int(isolated)]
    return Curvature(lowest, highest, direction, predicted, relative, null, condition, stride, False, None, hidden)


def _newton(slopes: Array, values: Array, blind: Array, reach: float) -> tuple[Array, float, float]:
    """The decreases of a Newton step along each eigenvector, no longer than `reach`; and its length.

    A slope up to `blind`, which rounding of the point alone could make, does not count. The third number is the
    decrease with these.
    """
    curvatures, seen = np.abs(values), np.abs(slopes) > blind
    steps = np.minimum(np.abs(slopes) / np.maximum(curvatures, 1e-300), reach)
    gains = np.abs(slopes) * steps - curvatures * steps**2 / 2
    return np.where(seen, gains, 0.0), float(np.linalg.norm(steps[seen])), float(gains.sum())


def _stride(slopes: Array, values: Array, ways: Array) -> Array:
    """The longest of the steps along each way, the rows of `ways` (k, n), to where a parabola is lowest."""
    steps = -slopes / np.maximum(np.abs(values), 1e-300)
    longest = int(np.argmax(np.abs(steps)))
    return np.asarray(steps[longest] * ways[longest])


def scaling_of(lab: Laboratory, curvature: Curvature, free: NDArray[np.bool_]) -> Scaling | None:
    """Sizes of the variables from the diagonal of the Hessian: for each one, or for each tensor if there are many."""
    n, sizes = free.size, np.ones(free.size)
    if curvature.matrix is not None:
        if not curvature.matrix.any():
            return None
        root = _root(curvature.matrix)
        sizes[free] = root
        scaled = np.linalg.eigvalsh(curvature.matrix * np.outer(root, root))
        after = _condition(np.asarray(scaled, dtype=np.float64), lab.flat.eps)
    else:
        owner = lab.subject.owners()
        tensors = np.unique(owner)
        if len(tensors) < 2 or lab.left < len(tensors) + 8:
            return None
        random = np.random.default_rng(0)
        for index in tensors:
            mine = (owner == index) & free
            if mine.any():
                signs = np.where(mine, random.choice([-1.0, 1.0], n), 0.0)
                mean = abs(float(signs @ lab.product(signs))) / int(mine.sum())
                sizes[mine] = 1 / math.sqrt(mean) if mean > 0 else 1.0

        def product(v: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(sizes * free * lab.product(sizes * free * v.numpy()))

        pairs = lanczos(product, n, lowest=1, highest=1, steps=min(n, 8), tolerance=0.0)
        after = _condition(pairs.values, lab.flat.eps)
    sizes /= np.exp(np.mean(np.log(sizes[free])))
    return Scaling(sizes, curvature.condition, after)


def _condition(values: Array, eps: float) -> float:
    size = float(np.abs(values).max())
    known = np.abs(values)[np.abs(values) > 10 * eps * size * max(len(values), 10)]
    return size / float(known.min()) if known.size else math.inf
