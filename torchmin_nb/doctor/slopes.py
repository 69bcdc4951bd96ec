"""Is the gradient right, and is the loss smooth? Directional differences at a point close by, jumps of the gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .laboratory import Laboratory

__all__ = ["Bend", "Kink", "Mismatch", "bend_of", "kink_of", "longest_step", "mismatch_of", "sizes_of"]

Array = NDArray[np.float64]
_Slope = tuple[float, Array]

_OFF, _OFF_IN_SINGLE = 0.02, 0.1
"""Slopes that differ by more are compared once more, over a shorter way."""
_AT_ZERO = 1e-3
_SPACING = 4.0
"""Differences are taken over this many cube roots of the machine epsilon, relative to the sizes."""
_LONGER = (30.0, 300.0)
"""Differences that say that a gradient is wrong are also taken over ways this many times as long."""
_FEW = 6
_LOCATED = 8
"""At most this many tensors are examined one by one."""


@dataclass(frozen=True)
class Mismatch:
    """A gradient that is not the derivative of the loss: along a direction, and by tensor where that is known.

    slope: by differences of the loss; claimed: by the gradient. tensors: (index, slope, claimed) of the wrong ones.
    entries: the same for the solver's variables, if a single small tensor is wrong.
    """

    slope: float
    claimed: float
    tensors: tuple[tuple[int, float, float], ...] = ()
    entries: tuple[tuple[int, float, float], ...] = ()


@dataclass(frozen=True)
class Bend:
    """Second derivatives that are not the derivatives of the gradient, along one direction.

    measured: length of the change of the gradient, by differences; claimed: of the product with the Hessian; apart: of
    what differs.
    """

    measured: float
    claimed: float
    apart: float


@dataclass(frozen=True, eq=False)
class Kink:
    """A jump of the gradient: between points `apart`, the gradient changes by `jump`, as much as over a longer way.

    size: of the gradient there. entries: shape (n,), the change of each entry. leaps: whether the loss jumps there too,
    which is noise, or steps, and no kink.
    """

    jump: float
    apart: float
    size: float
    entries: Array
    leaps: bool = False


def sizes_of(lab: Laboratory) -> Array:
    """A typical size of each variable, shape (n,): its own, at least the root mean square of its tensor; else 1.

    Where a run has ended at the origin, beside the longest of its steps, that step's.
    """
    z, owner = lab.z, lab.subject.owners()
    longest = longest_step(lab)
    if longest > 0 and float(np.abs(z).max(initial=0.0)) <= _AT_ZERO * longest:
        return np.full(z.size, longest / math.sqrt(z.size))
    sizes = np.abs(z)
    for index in np.unique(owner):
        mine = owner == index
        rms = float(np.sqrt(np.mean(z[mine] ** 2)))
        sizes[mine] = np.maximum(sizes[mine], 0.3 * rms) if rms else 1.0
    return sizes


def longest_step(lab: Laboratory) -> float:
    """The length of the longest step of the run; 0 without a run."""
    steps = np.asarray(lab.subject.history.step_norm if len(lab.subject.history) else (), dtype=float)
    return float(np.max(steps, where=np.isfinite(steps), initial=0.0))


def mismatch_of(lab: Laboratory, *, closely: bool = False) -> Mismatch | None:
    """Where the gradient differs from the loss: at a point one per cent away, so that a minimum or a kink is not met.

    Three evaluations if all is well. Differences at two distances must agree, so that a curved or noisy loss is not
    taken for a wrong gradient. closely: a few entries, or tensors, are also looked at one by one, as large slopes hide
    small ones.
    """
    random = np.random.default_rng(0)
    sizes, n = sizes_of(lab), lab.z.size
    near = lab.z + 0.01 * sizes * random.choice([-1.0, 1.0], n) * random.uniform(0.5, 1.0, n)
    if lab.variables.bounds is not None:  # so far inside that no difference meets a bound
        margin = 2 * _SPACING * lab.flat.eps ** (1 / 3) * sizes
        low, high = lab.variables.bounds.lb + margin, lab.variables.bounds.ub - margin
        sizes, near = np.where(low < high, sizes, 0.0), np.where(low < high, np.clip(near, low, high), lab.z)
    here = lab.sample(near)
    gradient = here.gradient if lab.subject.jac is None else lab.users_gradient(near)
    if not here.finite or gradient is None:
        return None
    signs = random.choice([-1.0, 1.0], n) * random.uniform(0.5, 1.0, n)
    direction = sizes * signs / math.sqrt(n)
    slope, claimed = _slope(lab, near, direction), float(gradient @ direction)
    owner, wrong = lab.subject.owners(), _is_wrong(lab, near, direction, gradient, here.loss, slope)
    if wrong is False and closely:
        parts = [np.arange(n) == i for i in range(n)] if n <= _FEW else [owner == i for i in np.unique(owner)]
        for mine in parts if 1 < len(parts) <= _FEW else []:
            direction = np.where(mine, sizes * signs / math.sqrt(n), 0.0)
            slope, claimed = _slope(lab, near, direction), float(gradient @ direction)
            wrong = _is_wrong(lab, near, direction, gradient, here.loss, slope)
            if wrong is not False:
                break
    if not wrong:
        return None
    assert slope is not None
    tensors = _located(lab, near, direction, gradient, here.loss, [owner == i for i in np.unique(owner)[:_LOCATED]])
    named = [(int(owner[np.flatnonzero(mine)[0]]), *slopes) for mine, slopes in tensors]
    entries = []
    if len(named) == 1 and 1 < int((owner == named[0][0]).sum()) <= _LOCATED:
        parts = [np.arange(n) == i for i in np.flatnonzero(owner == named[0][0])]
        found = _located(lab, near, direction, gradient, here.loss, parts)
        entries = [(int(np.flatnonzero(mine)[0]), *slopes) for mine, slopes in found]
    return Mismatch(slope, claimed, tuple(named), tuple(entries))


def bend_of(lab: Laboratory, gradient: Array, free: NDArray[np.bool_]) -> Bend | None:
    """Where products with the Hessian, the user's or autograd's, differ from differences of the gradient; else None.

    A product and two gradients if all is well, four if not. free: the variables that no bound holds.
    """
    random, n = np.random.default_rng(8), lab.z.size
    direction = np.where(free, sizes_of(lab), 0.0) * random.choice([-1.0, 1.0], n) * random.uniform(0.5, 1.0, n)
    direction /= math.sqrt(n)
    claimed = lab.claimed_product(direction)
    if claimed is None or not np.isfinite(claimed).all():
        return None
    change = _bend(lab, direction, 1.0)
    if change is None or not _bends_differ(lab, change, claimed, gradient):
        return None
    again, apart = _bend(lab, direction, 0.3), float(np.linalg.norm(change - claimed))
    if again is None or np.linalg.norm(again - change) > 0.1 * apart:
        return None
    return Bend(float(np.linalg.norm(change)), float(np.linalg.norm(claimed)), apart)


def _bend(lab: Laboratory, direction: Array, factor: float) -> Array | None:
    """The change of the gradient along a direction, by central differences."""
    h = factor * _SPACING * lab.flat.eps ** (1 / 3)
    ahead, behind = lab.sample(lab.z + h * direction), lab.sample(lab.z - h * direction)
    if not (ahead.finite and behind.finite) or ahead.gradient is None or behind.gradient is None:
        return None
    return np.asarray((ahead.gradient - behind.gradient) / (2 * h))


def _bends_differ(lab: Laboratory, measured: Array, claimed: Array, gradient: Array) -> bool:
    off = float(np.linalg.norm(measured - claimed))
    rounding = 100 * lab.flat.eps ** (2 / 3) * float(np.linalg.norm(gradient))
    return (
        off > _OFF_IN_SINGLE * max(float(np.linalg.norm(measured)), float(np.linalg.norm(claimed))) and off > rounding
    )


def _is_wrong(
    lab: Laboratory, near: Array, direction: Array, gradient: Array, loss: float, slope: float | None
) -> bool | None:
    """Whether the slope by differences is not that of the gradient; None if another slope comes out over a shorter way,
    or that of the gradient over a longer one, as of a loss with noise or few digits: then differences say nothing."""
    claimed = float(gradient @ direction)
    if slope is None or not _differ(lab, slope, claimed, _weight(gradient, direction), loss):
        return False
    off, again = abs(slope - claimed), _slope(lab, near, direction, 0.3)
    if again is None or abs(again - slope) > 0.1 * off:
        return None
    longer = (_slope(lab, near, direction, factor) for factor in _LONGER if lab.left > 1)
    return None if any(far is not None and abs(far - claimed) < 0.4 * off for far in longer) else True


def _weight(gradient: Array, direction: Array) -> float:
    """The size of g·d without cancellation."""
    return float(np.linalg.norm(gradient * direction))


def _located(
    lab: Laboratory, near: Array, direction: Array, gradient: Array, loss: float, parts: list[NDArray[np.bool_]]
) -> list[tuple[NDArray[np.bool_], tuple[float, float]]]:
    """The parts of the variables, as masks (n,), of which the slopes differ, with both slopes."""
    found = []
    for mine in parts:
        part = np.where(mine, direction, 0.0)
        if lab.left < 2:
            break
        slope, claimed = _slope(lab, near, part), float(gradient @ part)
        if slope is not None and _differ(lab, slope, claimed, _weight(gradient, part), loss):
            found.append((mine, (slope, claimed)))
    return found


def _slope(lab: Laboratory, at: Array, direction: Array, factor: float = 1.0) -> float | None:
    """The central difference of the loss; None where it is not finite."""
    h = factor * _SPACING * lab.flat.eps ** (1 / 3)
    slope = (lab.loss(at + h * direction) - lab.loss(at - h * direction)) / (2 * h)
    return slope if math.isfinite(slope) else None


def _differ(lab: Laboratory, slope: float, claimed: float, weight: float, loss: float) -> bool:
    """Whether two slopes differ by more than curvature, rounding and cancellation explain."""
    off, rounding = abs(slope - claimed), 100 * lab.flat.eps ** (2 / 3) * abs(loss)
    least = _OFF_IN_SINGLE if lab.subject.single else _OFF
    return off > least * max(abs(slope), abs(claimed), 0.3 * weight) and off > rounding


def kink_of(lab: Laboratory, gradient: Array, typical: float, *, around: bool = False) -> Kink | None:
    """A kink close to the examined point: the change of the gradient does not shrink with the distance.

    Along the steepest descent and along a random direction; up to twelve evaluations, and six to confirm it. typical:
    the largest gradient norm of the run, beside which the jump must count. around: a kink a little away counts too, as
    methods without gradients end beside it.
    """
    random = np.random.default_rng(1)
    reach = 1 + float(np.linalg.norm(lab.z))
    sizes = sizes_of(lab)
    steep = -gradient / (float(np.linalg.norm(gradient)) or 1.0)
    turned = sizes * random.standard_normal(lab.z.size)
    turned /= float(np.linalg.norm(turned)) or 1.0
    spacings = (1e-3, 1e-5, 1e-7) if not lab.subject.single else (3e-2, 3e-3, 3e-4)
    for direction in (steep, turned):
        jumps = []
        for spacing in spacings:
            step = spacing * reach * direction
            ahead, behind = lab.sample(lab.z + step), lab.sample(lab.z - step)
            if not (ahead.finite and behind.finite) or ahead.gradient is None or behind.gradient is None:
                break
            change = ahead.gradient - behind.gradient
            mean = float(np.linalg.norm(ahead.gradient) + np.linalg.norm(behind.gradient)) / 2
            jumps.append((float(np.linalg.norm(change)), 2 * spacing * reach, mean, change))
            ends = (-spacing * reach, spacing * reach)
            sides = (behind.loss, behind.gradient), (ahead.loss, ahead.gradient)
            beside = around and len(jumps) == 1 and jumps[0][0] > 0.5 * mean
            if beside:
                leaps = _sudden(lab, ends, direction, *sides)
                if leaps is not None:
                    return Kink(jumps[0][0], jumps[0][1], mean, change, leaps)
            if len(jumps) > 1 and _jumps(jumps[-2], jumps[-1]) and jumps[-1][0] >= 1e-4 * typical:
                leaps = _sudden(lab, ends, direction, *sides)
                if leaps is not None:
                    return Kink(*jumps[-1], leaps)
                break
            if len(jumps) > 1 and jumps[-1][0] <= 3 * jumps[-2][0] * jumps[-1][1] / jumps[-2][1]:
                break  # the change shrinks with the distance
    return None


def _sudden(
    lab: Laboratory, ends: tuple[float, float], direction: Array, behind: _Slope, ahead: _Slope, halvings: int = 6
) -> bool | None:
    """Whether the loss jumps too, if the change of the gradient between two points stays while they approach each
    other; None if it does not. behind, ahead: loss and gradient there.

    A network with large weights bends strongly over a long way: then each half of the way has its part of the change.
    """
    (f_low, g_low), (f_high, g_high) = behind, ahead
    whole = float(np.linalg.norm(g_high - g_low))
    low, high = ends
    for _ in range(halvings):
        middle = low + 0.45 * (high - low)  # not halfway: the kink may be exactly there
        found = lab.sample(lab.z + middle * direction)
        if not found.finite or found.gradient is None:
            return None
        if np.linalg.norm(found.gradient - g_low) > np.linalg.norm(g_high - found.gradient):
            high, f_high, g_high = middle, found.loss, found.gradient
        else:
            low, f_low, g_low = middle, found.loss, found.gradient
    if float(np.linalg.norm(g_high - g_low)) <= 0.2 * whole:
        return None
    steepest = max(float(np.linalg.norm(g_high)), float(np.linalg.norm(g_low)))
    explained = 10 * steepest * (high - low) * float(np.linalg.norm(direction))
    return abs(f_high - f_low) > explained + 100 * lab.flat.eps * abs(f_high)


def _jumps(far: tuple[float, float, float, Array], near: tuple[float, float, float, Array]) -> bool:
    """Whether the gradient changes as much over the short way, and by a part of its size that counts."""
    return near[0] >= 0.5 * far[0] and near[0] >= 0.05 * near[2] and near[0] > 0
