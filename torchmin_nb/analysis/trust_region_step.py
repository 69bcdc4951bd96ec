"""Inside a trust-region step: the quadratic model in its region, and the paths of the textbook methods."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy.sparse.linalg
from numpy.typing import NDArray

from ..core.autodiff.hessian import positive_definite
from ..core.history.history import History
from ..core.methods.local import MethodSpec, find_method
from ..errors import HistoryError
from .loss import Local, LossAt
from .surface import Surface

__all__ = ["RegionStep", "cauchy_point", "dogleg_path", "region_step", "steihaug_path"]

Product = Callable[[NDArray[np.float64]], NDArray[np.float64]]
_RESOLUTION = 121
_MARGIN = 1.25
_FARTHEST = 3.0
_DENSE = 200


class RegionStep(NamedTuple):
    """The model m(p) = f + gᵀp + ½ pᵀHp around iterate k, in the plane of p; units of x/scale.

    model: m over the plane. basis (2, n): the plane's axes; two parameters are their own. cauchy, newton, taken: points
    (1, 2), or (0, 2) where there is none: the Newton point only where the model has a minimum. dogleg, steihaug:
    paths (m, 2) from 0 to their end or the boundary. radius: of this step; next_radius: after it.
    ratio: actual over predicted reduction. accepted: whether the step was taken. words: what the update rule did.
    axes: what the plane's coordinates are.
    """

    model: Surface
    value: float
    basis: NDArray[np.float64]
    cauchy: NDArray[np.float64]
    newton: NDArray[np.float64]
    dogleg: NDArray[np.float64]
    steihaug: NDArray[np.float64]
    taken: NDArray[np.float64]
    radius: float
    next_radius: float
    predicted: float | None
    actual: float | None
    ratio: float | None
    accepted: bool | None
    iteration: int
    axes: tuple[str, str]
    words: tuple[str, ...]


def region_step(loss: Local, history: History, k: int, scale: NDArray[np.float64] | float = 1.0) -> RegionStep:
    """The step from iterate k to k + 1 of a trust-region method. A rejected one needs keep_evaluations=True to be seen.

    Source: Nocedal & Wright (2006): Cauchy point 4.11, 4.12; dogleg 4.16; CG-Steihaug, algorithm 7.2; the update of the
    radius, algorithm 4.1.
    """
    radius = float(history.trust_radius[k])
    if not math.isfinite(radius):
        raise HistoryError(f"iteration {k} has no trust radius, so its region cannot be drawn; choose another")
    x, spec = history.parameters[k], find_method(history.method)
    at = loss.at(x)
    g, product = at.gradient * scale, _product(at, scale, spec, len(x))
    step = _taken(history, k, scale)
    newton = _newton(g, product, spec.shift)
    steihaug = steihaug_path(g, product, radius)
    basis, axes = _plane(g, newton if newton is not None else steihaug[-1])
    taken = np.empty((0, 2)) if step is None else (basis @ step)[None]
    predicted = None if step is None else float(-(g @ step) - 0.5 * step @ product(step))
    actual = None if step is None else at.value - float(loss.values((x + step * scale)[None])[0])
    reported = history[k + 1]
    near = newton is not None and bool(np.linalg.norm(newton) <= _FARTHEST * radius)
    reach = max(radius, float(np.abs(basis @ newton).max())) if near and newton is not None else radius
    dogleg = np.empty((0, len(x))) if newton is None else dogleg_path(g, product, newton, radius)
    return RegionStep(
        model=_model(at.value, basis, g, product, reach * _MARGIN),
        value=at.value,
        basis=basis,
        cauchy=cauchy_point(g, product, radius)[None] @ basis.T,
        newton=np.empty((0, 2)) if newton is None else newton[None] @ basis.T,
        dogleg=dogleg @ basis.T,
        steihaug=steihaug @ basis.T,
        taken=taken,
        radius=radius,
        next_radius=float(history.trust_radius[k + 1]),
        predicted=predicted,
        actual=actual,
        ratio=reported.reduction_ratio if reported.reduction_ratio is not None else _ratio(actual, predicted),
        accepted=reported.accepted,
        iteration=k + 1,
        axes=axes,
        words=_words(history, k, spec, step),
    )


def cauchy_point(g: NDArray[np.float64], product: Product, radius: float) -> NDArray[np.float64]:
    """The model's minimiser along −g inside the region, shape (n,). N&W 4.11, 4.12."""
    norm = float(np.linalg.norm(g))
    if norm == 0:
        return np.zeros_like(g)
    curvature = float(g @ product(g))
    share = 1.0 if curvature <= 0 else min(norm**3 / (radius * curvature), 1.0)
    return -share * radius / norm * g


def dogleg_path(
    g: NDArray[np.float64], product: Product, newton: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    """From 0 by the unconstrained minimiser along −g to the Newton point, cut at the boundary; (m, n). N&W 4.16."""
    curvature = float(g @ product(g))
    if curvature <= 0:
        return np.empty((0, len(g)))
    return _cut(np.stack([np.zeros_like(g), -(g @ g) / curvature * g, newton]), radius)


def steihaug_path(g: NDArray[np.float64], product: Product, radius: float) -> NDArray[np.float64]:
    """The iterates of conjugate gradients from 0 to the tolerance, or to the boundary. Shape (m, n). N&W algorithm 7.2.

    The tolerance is that of SciPy's trust-ncg: min(½, √‖g‖) ‖g‖.
    """
    norm = float(np.linalg.norm(g))
    tolerance = min(0.5, math.sqrt(norm)) * norm
    path, r, d = [np.zeros_like(g)], g.copy(), -g
    if norm <= tolerance or norm == 0:
        return np.array(path)
    for _ in range(2 * len(g) + 10):
        hd = product(d)
        curvature = float(d @ hd)
        if curvature <= 0:
            ends = [_to_boundary(path[-1], way, radius) for way in (d, -d)]
            return np.array([*path, min(ends, key=lambda p: float(g @ p + 0.5 * p @ product(p)))])
        alpha = float(r @ r) / curvature
        p = path[-1] + alpha * d
        if np.linalg.norm(p) >= radius:
            return np.array([*path, _to_boundary(path[-1], d, radius)])
        path.append(p)
        r_next = r + alpha * hd
        if np.linalg.norm(r_next) < tolerance:
            break
        d = -r_next + float(r_next @ r_next) / float(r @ r) * d
        r = r_next
    return np.array(path)


def _to_boundary(p: NDArray[np.float64], d: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """p + τ d with τ >= 0 and ‖p + τ d‖ = radius."""
    a, b, c = float(d @ d), float(p @ d), float(p @ p) - radius**2
    return np.asarray(p + (-b + math.sqrt(max(b * b - a * c, 0.0))) / a * d)


def _cut(path: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    for index, (start, end) in enumerate(pairwise(path)):
        if np.linalg.norm(end) > radius:
            return np.array([*path[: index + 1], _to_boundary(start, end - start, radius)])
    return path


def _product(at: LossAt, scale: NDArray[np.float64] | float, spec: MethodSpec, n: int) -> Product:
    """H in x/scale, as in the method: shifted to be positive definite if the method needs that."""
    if not spec.shift or n > _DENSE:
        return lambda v: np.asarray(scale * at.product(np.asarray(scale * v)))
    hessian = np.stack([scale * at.product(np.asarray(scale * unit)) for unit in np.eye(n)])
    shifted = positive_definite((hessian + hessian.T) / 2, float(np.finfo(np.float64).eps))
    return lambda v: np.asarray(shifted @ v)


def _newton(g: NDArray[np.float64], product: Product, shifted: bool) -> NDArray[np.float64] | None:
    """−H⁻¹g if H is positive definite, as far as conjugate gradients can detect; else None."""
    n = len(g)
    if n <= _DENSE:
        hessian = np.stack([product(unit) for unit in np.eye(n)])
        try:
            factor = scipy.linalg.cho_factor((hessian + hessian.T) / 2)
        except np.linalg.LinAlgError:
            return None
        return np.asarray(-scipy.linalg.cho_solve(factor, g))
    operator = scipy.sparse.linalg.LinearOperator((n, n), matvec=product, dtype=np.float64)
    step, failed = scipy.sparse.linalg.minres(operator, -g, rtol=1e-8, maxiter=_DENSE)
    return None if failed or step @ product(step) <= 0 else np.asarray(step)


def _plane(g: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[str, str]]:
    """Two orthonormal rows. With two parameters the plane of both; with more the plane of −g and `other`."""
    if len(g) == 2:
        return np.eye(2), ("step in x₁", "step in x₂")
    first = -g / np.linalg.norm(g)
    second = other - (other @ first) * first
    if np.linalg.norm(second) <= 1e-8 * np.linalg.norm(other):
        second = np.eye(len(g))[int(np.abs(first).argmin())]
        second = second - (second @ first) * first
    return np.stack([first, second / np.linalg.norm(second)]), ("along −∇f", "across, towards the Newton step")


def _model(value: float, basis: NDArray[np.float64], g: NDArray[np.float64], product: Product, reach: float) -> Surface:
    side = np.linspace(-reach, reach, _RESOLUTION)
    slope = basis @ g
    curvature = basis @ np.stack([product(row) for row in basis], axis=1)
    p = np.stack(np.meshgrid(side, side), axis=-1)
    return Surface(side, side, value + p @ slope + 0.5 * np.einsum("...i,ij,...j", p, curvature, p))


def _taken(history: History, k: int, scale: NDArray[np.float64] | float) -> NDArray[np.float64] | None:
    """The step of iteration k + 1, in x/scale: to the next iterate, or to the rejected trial."""
    x, after = history.parameters[[k, k + 1]]
    if history[k + 1].accepted is not False:
        return np.asarray((after - x) / scale)
    if not history.keep_evaluations:
        return None
    tried = [e.index for e in history.evaluations[: len(history.trials)] if e.iteration == k + 1]
    return np.asarray((history.trials[tried[-1]] - x) / scale) if tried else None


def _ratio(actual: float | None, predicted: float | None) -> float | None:
    return None if actual is None or not predicted else actual / predicted


def _words(history: History, k: int, spec: MethodSpec, step: NDArray[np.float64] | None) -> tuple[str, ...]:
    before, after, iteration = history.trust_radius[k], history.trust_radius[k + 1], history[k + 1]
    moved = f"from {before:.4g} to {after:.4g}"
    if spec.radius != "loop" or iteration.reduction_ratio is None:
        change = f"goes {moved}" if before != after else f"stays {before:.4g}"
        return (f"The step is {'taken' if iteration.accepted else 'rejected'}; the radius {change}.",)
    ratio, eta = iteration.reduction_ratio, float(history.options.get("eta", spec.options["eta"].default))
    verdict = "above" if ratio > eta else "not above"
    return (
        f"Ratio ρ = {ratio:.3g}, {verdict} η = {eta:g}: the step is {'taken' if ratio > eta else 'rejected'}.",
        _rule(ratio, float(before), float(after), moved, step),
    )


def _rule(ratio: float, before: float, after: float, moved: str, step: NDArray[np.float64] | None) -> str:
    if ratio < 0.25:
        return f"ρ < ¼, the model is poor: the radius is divided by four, {moved}."
    if ratio <= 0.75:
        return f"¼ ≤ ρ ≤ ¾: the radius stays {before:.4g}."
    if after > before:
        return f"ρ > ¾ on the boundary, the model is good: the radius grows {moved}."
    inside = step is not None and float(np.linalg.norm(step)) < before * (1 - 1e-6)
    why = "but the step ends inside the region" if inside else "but it has its largest value"
    return f"ρ > ¾, {why}: the radius stays {before:.4g}."
