"""Everything that the rules may ask about a run. Each answer is computed at its first use, within one budget.

An answer is None where it is not known: the budget was spent, or the closure cannot give it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core.autodiff.closure import ClosureResult
from ..core.autodiff.closure_check import same_loss
from ..errors import ClosureError
from .curvature import TINY, Curvature, Scaling, curvature_of, free_of_bounds, refined, scaling_of
from .ending import Ending, ending_of
from .feasibility import Feasibility, feasibility_of
from .laboratory import ClosureFailed, Laboratory, OutOfBudget, Sample
from .layers import FirstNonFinite, Watch
from .precision import DoubleTrial, coarsest_eps, double_trial, noise_of
from .slopes import Bend, Kink, Mismatch, bend_of, kink_of, longest_step, mismatch_of, sizes_of
from .squares import is_sum_of_squares
from .subject import Subject
from .symmetry import alike_layers

__all__ = ["KKT", "ROUGH_KKT", "Examination"]

T = TypeVar("T")

if TYPE_CHECKING:
    probe = cached_property
else:

    def probe(ask: Callable[[Any], T]) -> Any:
        """A cached answer that is None if the budget does not allow it, or the closure fails while it is sought."""

        def asked(self: Any) -> T | None:
            try:
                return ask(self)
            except OutOfBudget:
                self.cut = True
                return None
            except (ClosureFailed, ClosureError, np.linalg.LinAlgError):
                return None

        asked.__name__ = ask.__name__
        asked.__doc__ = ask.__doc__
        return cached_property(asked)


KKT = 1e-3
"""Largest KKT residual, relative to gradient and loss, of a solution."""
ROUGH_KKT = 1e-2
"""The same where the method reports success: trust-constr ends so by its default tolerances."""
_CONVERGED = 1e-4
"""Converged, if a method says so and a Newton step would lower the loss by less than this part of what the run did."""
_MOST = 1e-5
"""The same part, where most of the loss would go with a step that counts, as after a start that was very far away."""
_LOOSE = 1e-6
"""The same part, where the user has set larger tolerances than the method's own."""
_ATTEMPTS = 9
"""Steps back to a curve on which the loss may stay the same: each leaves about a twentieth of the difference."""
_CLEAR, _APART = 1e-9, 1e3
"""Curvatures above the first part of the largest are clearly some; flat directions have curvatures the second times
smaller than others."""
_UNSETTLED, _ILL, _ILL_AT_LEAST = 0.1, 1e5, 1e4
"""A Newton step longer than the first, relative to the point, leaves parameters open; condition numbers that explain
it, of the whole Hessian, and of what some products have seen."""
_SMALL_LOSS = 1e-3
"""A loss that was never larger than this ends runs by absolute tolerances, whatever its condition."""
_TESTED, _ENOUGH = 3, _ATTEMPTS + 1
"""Flat directions that are followed, of those without curvature and of those with little; evaluations for one."""
_OF_A_TAIL, _FALLS, _RISES = 1e-3, 0.01, 0.1
"""A Newton step longer than the first, relative to the point, may lead on without end, and one of the inverse length is
none. The loss must fall on that way by more than the second, relative to it, and may rise by no more than the third of
its first fall, as such a way is straight and known roughly."""
_ALONG_A_TAIL = (0.3, 1.0, 3.0, 10.0)
"""Where the loss is looked at on such a way, in sizes of the point or Newton steps."""
_OVER_THE_POINT = 0.05
_STILL = 1e-3
"""A gradient that has become this much smaller in a run."""
_INDEFINITE = -1e-6
"""Curvature in the best scale, relative to the largest, that is negative beyond doubt. Networks without a penalty have
such directions almost everywhere."""
_STEP, _SMALL_STEP, _OF_LOSS = 1e-5, 1e-3, 1e-6
"""Converged in the parameters: a Newton step shorter than the first, relative to them; or than the second, if it would
change the loss by less than the third, relative to it. A run that began at a minimum has lowered nothing."""


class Examination:
    """The answers about one subject. lab: what evaluates, and counts. cut: whether its budget has left answers out."""

    def __init__(self, subject: Subject, lab: Laboratory):
        self.subject, self.lab = subject, lab
        self.cut = False

    # One call at the end point

    @cached_property
    def here(self) -> Sample:
        """Loss and gradient at the examined point; `watch` sees the closure's operations meanwhile."""
        with self.watch:
            return self.lab.sample()

    @cached_property
    def watch(self) -> Watch:
        """Activations by layer and operations with kinks, of the first call."""
        subject = self.subject
        names = {id(t): subject.tensor_name(index) for index, t in enumerate(subject.flat.tensors)}
        return Watch(names)

    @cached_property
    def ending(self) -> Ending:
        """How the run ended."""
        return ending_of(self.subject, self.here.loss)

    @property
    def gradient(self) -> NDArray[np.float64] | None:
        """The gradient with respect to the solver's variables."""
        return self.here.gradient

    @cached_property
    def slope(self) -> float:
        """The length of the gradient without the part that bounds hold; NaN without a gradient."""
        if self.gradient is None:
            return math.nan
        return float(np.linalg.norm(self.gradient[self.free]))

    @cached_property
    def free(self) -> NDArray[np.bool_]:
        """The variables that are not held by a bound."""
        assert self.gradient is not None
        return free_of_bounds(self.lab, self.gradient, max(abs(self.here.loss), self.ending.fell))

    @cached_property
    def typical_slope(self) -> float:
        """The largest gradient norm of the run, or that at the end point."""
        norms = np.asarray(self.subject.history.grad_norm, dtype=float) if len(self.subject.history) else np.empty(0)
        known = norms[np.isfinite(norms)]
        return max(float(known.max()) if known.size else 0.0, 0.0 if math.isnan(self.slope) else self.slope)

    @cached_property
    def eps(self) -> float:
        """Machine epsilon of the coarsest dtype in the loss."""
        assert self.here is not None
        return max(self.subject.flat.eps, coarsest_eps(self.lab))

    @cached_property
    def rounding(self) -> float:
        """The least change of the loss that its dtype can show."""
        return self.eps * abs(self.here.loss)

    @cached_property
    def squares(self) -> bool:
        """Whether the loss is a sum of squares, by its graph."""
        assert self.here is not None
        return not self.subject.residuals and is_sum_of_squares(self.lab.observed.returned)

    # More calls

    @probe
    def repeated(self) -> float | None:
        """The loss of a second call at the same point."""
        graph = self.eps  # of the first call
        assert graph
        return self.lab.sample(level="value").loss

    @cached_property
    def deterministic(self) -> bool:
        """Whether two calls agree up to rounding."""
        if self.repeated is None:
            return True
        first = ClosureResult(self.here.loss)
        return same_loss(first, self.repeated, self.eps, self.lab.z)

    @probe
    def mismatch(self) -> Mismatch | None:
        """A gradient that is not the derivative of the loss."""
        if self.gradient is None:
            return None
        coarse = self.eps > float(np.finfo(np.float64).eps)
        return mismatch_of(self.lab, closely=self.ending.kind == "search" and not coarse)

    @property
    def noisy(self) -> bool:
        """Whether the noise of the loss is far above its rounding."""
        size = max(abs(self.ending.first), abs(self.here.loss))
        return self.noise is not None and self.noise >= 1e4 * self.eps * size

    @probe
    def bend(self) -> Bend | None:
        """Second derivatives that are not those of the loss, if the method uses them."""
        uses = self.subject.products is not None or self.subject.curved
        if self.gradient is None or not uses or self.subject.constraints:
            return None
        return bend_of(self.lab, self.gradient, self.free)

    @probe
    def kink(self) -> Kink | None:
        """A kink at the end point."""
        if self.gradient is None:
            return None
        return kink_of(self.lab, self.gradient, self.typical_slope, around=self.subject.gradient_free)

    @probe
    def noise(self) -> float | None:
        """The measured noise of the loss."""
        free = self.free if self.gradient is not None else np.ones(self.lab.z.size, dtype=bool)
        return noise_of(self.lab, free, None if self.subject.constraints else self.gradient, self.here.loss)

    @probe
    def curvature(self) -> Curvature | None:
        """The Hessian's extremes and the predicted decrease."""
        if self.gradient is None or self.subject.constraints:
            return None
        silent = self.unmoved if self.lab.left >= 2 * _ENOUGH else None  # before products take what is left
        unused = np.isin(self.subject.owners(), silent or [])
        reserve, little = min(14, self.lab.left // 3), self.ending.claims_success
        keywords: dict[str, Any] = {"reserve": reserve, "little_left": little, "rounding": self.rounding}
        found = curvature_of(self.lab, self.gradient, self.free & ~unused, **keywords)
        self.cut = self.cut or (found is None and bool(self.free.any()))
        return found

    @probe
    def gain_downhill(self) -> tuple[float, float] | None:
        """How far the loss falls along the direction of negative curvature, and at which distance; None without.

        By the curvature where no evaluation is left.
        """
        curvature = self.curvature
        if curvature is None or (
            curvature.lowest >= -1e-10 * abs(curvature.highest) and curvature.weakest >= _INDEFINITE
        ):
            return None
        reach = float(np.linalg.norm(sizes_of(self.lab)))
        if reach < TINY:  # a point at 0, where the curvature alone says how long a step counts
            reach = math.sqrt(2 * (abs(self.here.loss) + self.ending.fell or 1.0) / abs(curvature.lowest))
        if self.lab.left < 1:
            return -curvature.lowest * (0.1 * reach) ** 2 / 2, 0.1 * reach
        best = (0.0, 0.0)
        for length in [side * share * reach for share in (0.1, 0.01, 0.5) for side in (1.0, -1.0)][: self.lab.left]:
            fall = self.here.loss - self.lab.loss(self.lab.z + length * curvature.direction)
            best = (fall, length) if fall > best[0] else best
        return best

    @probe
    def lower_nearby(self) -> tuple[float, float] | None:
        """By how much the loss is lower at a point close by, and its distance, where the Hessian does not show it.

        Along a direction without curvature also further away.
        """
        curvature = self.curvature
        if curvature is None:
            return None
        random, sizes, best = np.random.default_rng(5), sizes_of(self.lab), (0.0, 0.0)
        for _ in range(2):
            step = 0.02 * sizes * random.choice([-1.0, 1.0], sizes.size) * random.uniform(0.5, 1.0, sizes.size)
            for side in (1.0, -1.0):
                fall = self.here.loss - self.lab.loss(self.lab.z + side * step)
                best = max(best, (fall, float(np.linalg.norm(step))))
        reach = float(np.linalg.norm(sizes))
        if curvature.whole and len(curvature.null):
            for length in [side * share * reach for share in (0.1, 0.5) for side in (1.0, -1.0)][: self.lab.left]:
                fall = self.here.loss - self.lab.loss(self.lab.z + length * curvature.null[0])
                best = max(best, (fall, abs(length)))
        return best

    @probe
    def starved(self) -> dict[str, float] | None:
        """By parameter: the length of its gradient beside that of all, at a point one per cent away.

        Not at the examined point: where the run has converged, all gradients are rounding.
        """
        random, sizes = np.random.default_rng(7), sizes_of(self.lab)
        beside = self.lab.sample(self.lab.z + 0.01 * sizes * random.choice([-1.0, 1.0], sizes.size))
        lengths = [0.0 if part is None else float(part.norm()) for part in beside.parts]
        whole = math.hypot(*lengths)
        if not (beside.finite and whole):
            return None
        return {self.subject.tensor_name(index): length / whole for index, length in enumerate(lengths)}

    @probe
    def flat_far(self) -> float | None:
        """The largest change of the loss at a tenth of the variables' size, relative to it; 0 on a plateau."""
        changes = self.far_changes
        return None if changes is None else max(map(abs, changes)) / (abs(self.here.loss) or 1.0)

    @probe
    def far_changes(self) -> list[float] | None:
        """The changes of the loss at two points a tenth of the variables' size away, on opposite sides."""
        step = 0.1 * sizes_of(self.lab) * np.random.default_rng(3).choice([-1.0, 1.0], self.lab.z.size)
        return [self.lab.loss(self.lab.z + side * step) - self.here.loss for side in (1.0, -1.0)]

    @probe
    def runaway(self) -> tuple[float, float, float] | None:
        """A way on which the loss falls further and further: its length, and the losses after a tenth of it and all.

        Away from the origin, then down the gradient, by ten and a hundred times the size of the point. None if the loss
        rises on both.
        """
        gradient, size = self.gradient, float(np.linalg.norm(self.lab.z))
        if gradient is None or self.subject.constraints or not self.here.finite:
            return None
        reach, steepest = 1 + size, float(np.linalg.norm(gradient))
        ways = [self.lab.z / size] if size > TINY else []
        for way in [*ways, *([-gradient / steepest] if steepest > 0 else [])]:
            near = self.lab.loss(self.lab.z + 10 * reach * way)
            if not self.here.loss - near > 10 * self.rounding + 1e-12 * self.ending.fell:
                continue
            far = self.lab.loss(self.lab.z + 100 * reach * way)
            if far <= near:
                return 100 * reach, near, far
        return None

    @probe
    def tail(self) -> tuple[float, tuple[float, ...]] | None:
        """A way on which the loss only falls, far beyond where a parabola would rise: its length, and losses on it.

        Along the longest part of the Newton step, which does not shrink where an exponential ends, and away from the
        origin. None where that part is short, as at a minimum, and where little of the loss is lost on the way.
        """
        curvature, size = self.curvature, float(np.linalg.norm(self.lab.z))
        if curvature is None or not self.here.finite:
            return None
        stride = float(np.linalg.norm(curvature.stride))
        reach = max(1 + size, stride)
        if not _OF_A_TAIL * (1 + size) <= stride <= 1 / _OF_A_TAIL * (1 + size):
            return None
        for way in [curvature.stride / stride, *([self.lab.z / size] if size > TINY else [])]:
            losses = [self.here.loss]
            for length in _ALONG_A_TAIL:
                losses.append(self.lab.loss(self.lab.z + length * reach * way))
                if not losses[-1] <= losses[-2] + _RISES * (losses[0] - losses[1]):
                    break
            else:
                if losses[0] - losses[-1] > _FALLS * abs(losses[0]):
                    return _ALONG_A_TAIL[-1] * reach, tuple(losses)
        return None

    @probe
    def quadratic(self) -> bool | None:
        """Whether the gradient is linear: the Hessian explains its change over a tenth of the variables' size."""
        if self.gradient is None:
            return None
        step = 0.1 * sizes_of(self.lab) * np.random.default_rng(9).choice([-1.0, 1.0], self.lab.z.size)
        there = self.lab.sample(self.lab.inside(self.lab.z + step))
        if not there.finite or there.gradient is None:
            return None
        change = there.gradient - self.gradient
        expected = self.lab.product(self.lab.inside(self.lab.z + step) - self.lab.z)
        return bool(np.linalg.norm(change - expected) <= 1e-3 * np.linalg.norm(change))

    @probe
    def scaling(self) -> Scaling | None:
        """A scale of the variables that would mend the condition."""
        return None if self.curvature is None else scaling_of(self.lab, self.curvature, self.free)

    @probe
    def flat_directions(self) -> NDArray[np.float64] | None:
        """Unit directions (k, n) along which the loss stays the same, also far away, on a line or on a curve."""
        curvature = self.curvature
        if curvature is None or not len(curvature.null):
            return None
        if curvature.matrix is None:
            rows = refined(self.lab, curvature, self.free, reserve=2)
            return rows[: int(len(rows) > 0 and self._is_straight(rows[0], curvature))]
        exact, weak = curvature.null[: curvature.exact], curvature.null[curvature.exact :]
        kept = [direction for direction in exact[:_TESTED] if self._leads_far(direction, curvature.matrix)]
        kept = list(exact) if len(kept) == len(exact[:_TESTED]) else kept
        for direction in weak[:_TESTED]:
            if self.lab.left < _ENOUGH:
                break
            kept += [direction] if self._leads_far(direction, curvature.matrix) else []
        apart = curvature.own is None or self._stand_apart(curvature.own, len(kept))
        return np.array(kept if apart else []).reshape(-1, self.lab.z.size)

    def _stand_apart(self, own: NDArray[np.float64], flat: int) -> bool:
        """Whether all other curvatures are clear, or a gap is between them and the flat directions.

        Curvatures that fall bit by bit to rounding, as a Hilbert matrix's, are those of an ill-conditioned problem.
        """
        if not 0 < flat < len(own) or own[flat] >= _CLEAR:
            return True
        below = np.maximum(own[flat - 1 : -1], self.lab.flat.eps)
        return bool(((own[flat:] >= _APART * below) & (below <= 1 / _APART)).any())

    def _is_straight(self, direction: NDArray[np.float64], curvature: Curvature) -> bool:
        """Whether the loss stays the same a tenth of the variables' size away, beside what others would change."""
        reach = 0.1 * float(np.linalg.norm(sizes_of(self.lab)))
        allowed = max(100 * self.rounding, 1e-7 * abs(curvature.highest) * reach**2 / 2)
        losses = [self.lab.loss(self.lab.z + side * reach * direction) for side in (1.0, -1.0)]
        return all(abs(loss - self.here.loss) <= allowed for loss in losses)

    def _leads_far(self, direction: NDArray[np.float64], matrix: NDArray[np.float64]) -> bool:
        """Whether the loss is the same again a tenth of the variables' size along this direction, and then downhill.

        Up to the noise of a sum of squares, which is in proportion to √(loss · its first value).
        """
        loss, fell = abs(self.here.loss), self.ending.fell
        curvature, reach = self.curvature, float(np.linalg.norm(sizes_of(self.lab)))
        travelled = math.sqrt(2 * fell / curvature.highest) if curvature is not None and curvature.highest > 0 else 0.0
        reach = 0.1 * (travelled if travelled > 3 * reach else reach)
        noise = 100 * (self.eps * math.sqrt(loss * (fell + loss)) + self.eps**2 * fell)
        z = self.lab.z + reach * direction
        inverse: NDArray[np.float64] = np.asarray(np.linalg.pinv(matrix, rcond=1e-4, hermitian=True), dtype=np.float64)
        same, allowed = self.here.loss, noise
        for attempt in range(_ATTEMPTS):
            sample = self.lab.sample(z)
            if not sample.finite or sample.gradient is None:
                return False
            if abs(sample.loss - same) <= allowed:
                return abs(float((z - self.lab.z) @ direction)) > 0.5 * reach
            if not attempt:  # from now on, beside what the same steps make of the examined point
                allowed = max(noise, 1e-8 * abs(sample.loss - same))
                same = self._after_a_newton_step(inverse)
            z = z - self._step(inverse, sample.gradient)
        return False

    def _after_a_newton_step(self, inverse: NDArray[np.float64]) -> float:
        assert self.gradient is not None
        return self.lab.loss(self.lab.z - self._step(inverse, self.gradient))

    def _step(self, inverse: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        step = np.zeros(gradient.size)
        step[self.free] = inverse @ gradient[self.free]
        return step

    @probe
    def unmoved(self) -> list[int] | None:
        """The tensors that get no gradient here or at a point close by, and on which the loss does not depend."""
        if self.gradient is None:
            return None
        silent = [index for index, part in enumerate(self.here.parts) if part is None or not bool(part.any())]
        if not silent:
            return []
        owner, sizes = self.subject.owners(), sizes_of(self.lab)
        random = np.random.default_rng(4)
        shift = sizes * random.choice([-1.0, 1.0], sizes.size) * random.uniform(0.5, 1.0, sizes.size)
        elsewhere = self.lab.sample(self.lab.z + 0.3 * shift)
        if not elsewhere.parts:
            return []
        silent = [i for i in silent if elsewhere.parts[i] is None or not bool(elsewhere.parts[i].any())]  # type: ignore[union-attr]
        if not silent:
            return []
        moved = self.lab.loss(self.lab.z + np.where(np.isin(owner, silent), shift, 0.0))
        return silent if moved == self.here.loss else []

    @probe
    def double(self) -> DoubleTrial | None:
        """Whether float64 would go on; None in float64, and while a run holds the graph of its derivatives."""
        subject = self.subject
        holds_a_graph = subject.under_way and (subject.curved or subject.residuals)
        if not subject.single or self.gradient is None or holds_a_graph:
            return None
        trial, lab = double_trial(subject, self.free, self.lab.left)
        self.lab.forget_the_graph()
        self.lab.calls += lab.calls
        self.lab.products += lab.products
        return trial

    @probe
    def feasibility(self) -> Feasibility | None:
        """The constraints at the end point."""
        return feasibility_of(self.lab, self.gradient)

    @probe
    def nonfinite(self) -> FirstNonFinite | None:
        """The first operation that is not finite, at the examined point; None if all is finite."""
        if self.here.finite:
            return None
        return self.first_nonfinite(None)

    def first_nonfinite(self, z: NDArray[np.float64] | None) -> FirstNonFinite:
        """One call at z, with every operation watched."""
        finder = FirstNonFinite()
        with finder:
            self.lab.sample(z)
        return finder

    @probe
    def nonfinite_ahead(self) -> tuple[float, FirstNonFinite] | None:
        """How far along the steepest descent the loss stops being finite, and the operation; None if it does not."""
        if self.gradient is None or not self.here.finite or not self.slope:
            return None
        direction = -self.gradient / self.slope
        steps = np.asarray(self.subject.history.step_norm, dtype=float) if len(self.subject.history) else np.empty(0)
        known = steps[np.isfinite(steps) & (steps > 0)]
        length = float(known[-1]) if known.size else 1e-3 * (1 + float(np.linalg.norm(self.lab.z)))
        for _ in range(8):
            sample = self.lab.sample(self.lab.z + length * direction)
            if not sample.finite:
                return length, self.first_nonfinite(self.lab.z + length * direction)
            length *= 4
        return None

    @probe
    def undefined_beside(self) -> tuple[float, FirstNonFinite] | None:
        """The same for steps as long as the curvature of each variable makes them: a few of these are long trials."""
        curvature, gradient = self.curvature, self.gradient
        if curvature is None or gradient is None or not self.slope:
            return None
        if curvature.matrix is None:
            bends = np.full(gradient.size, abs(float(gradient @ self.lab.product(gradient))) / self.slope**2)
        else:
            bends = np.ones(gradient.size)
            bends[self.free] = np.abs(np.diag(curvature.matrix))
        step = np.where(self.free & (bends > 0), -gradient / np.where(bends > 0, bends, 1.0), 0.0)
        for times in (1.0, 4.0, 16.0):
            if not self.lab.sample(self.lab.z + times * step).finite:
                return times * float(np.linalg.norm(step)), self.first_nonfinite(self.lab.z + times * step)
        return None

    # Conclusions

    @cached_property
    def predicted(self) -> float | None:
        """By how much a Newton step would lower the loss; None if unknown.

        Of a float32 run that reports no success: as float64 sees it, or with slopes that may be rounding.
        """
        if self.gradient is not None and not self.subject.constraints and not self.free.any():
            return 0.0  # bounds hold everything
        if self.curvature is None:
            return None
        if not self.subject.single or self.ending.claims_success:
            return self.curvature.predicted
        if self.double is not None and self.double.known:
            return self.double.predicted
        return self.curvature.hidden if self.ending.kind == "limit" else self.curvature.predicted

    @cached_property
    def share_left(self) -> float | None:
        """The predicted decrease as a part of all that can be gained: 0 at a minimum, 1 if the run gained nothing."""
        if self.predicted is None:
            return None
        total = self.ending.fell + self.predicted
        return self.predicted / total if total > 0 else 0.0

    @cached_property
    def at_floor(self) -> bool:
        """Whether the predicted decrease is below what the dtype of the loss can show."""
        return self.predicted is not None and self.predicted <= 10 * self.rounding

    @cached_property
    def saddle(self) -> bool:
        """Whether the loss falls much further along negative curvature than along its gradient.

        Where a run has ended by itself, and the whole Hessian is known, further is enough.
        """
        gain, curvature = self.gain_downhill, self.curvature
        if gain is None or curvature is None:
            return False
        if curvature.weakest < _INDEFINITE and self._stands_still and self.by_itself and not self.layered:
            convex = curvature.predicted - curvature.concave
            return gain[0] > max(2 * convex, 1e3 * self.rounding, _OF_LOSS * abs(self.here.loss))
        return gain[0] > self._counts

    @property
    def _stands_still(self) -> bool:
        """Whether the gradient has become small in the run, and changes the loss little over the size of the point."""
        assert self.gradient is not None
        change = float(np.linalg.norm((self.gradient * self.lab.z)[self.free]))
        small = change <= _OVER_THE_POINT * abs(self.here.loss)
        return small and self.slope <= _STILL * self.typical_slope and not self.loose

    @property
    def by_itself(self) -> bool:
        """Whether the method ended the run, with success or without."""
        return self.ending.claims_success or self.ending.kind in ("search", "floor", "stalled", "other")

    @property
    def layered(self) -> bool:
        """Whether the closure computes a network, whose parameters nobody wants to know by themselves."""
        return self.watch.deep or any(layer.hidden for layer in self.watch.layers)

    @cached_property
    def alike(self) -> list[int]:
        """The weights of hidden layers whose units no method can tell apart, where the loss could be lower if it did.

        Zeros, or negative curvature: units that are alike may also be all that a fit needs.
        """
        curvature = self.curvature
        if curvature is None or not self.layered or self.ending.kind in ("target", "none", "paused", "stopped"):
            return []
        layers = alike_layers(self.subject)
        values = self.subject.views(self.subject.x)
        zero = all(not bool(values[index].any()) for index in layers)
        level = curvature.lowest <= 1e-10 * abs(curvature.highest)
        return layers if curvature.weakest < 0 or (zero and level) else []

    @cached_property
    def degenerate(self) -> bool:
        """Whether the gradient vanishes, and the loss is lower close by although no curvature is negative."""
        if self.saddle or self.predicted is None or self.subject.constraints:
            return False
        if self.predicted > 10 * self.rounding and (self.share_left or 0.0) > _CONVERGED:
            return False
        return self.lower_nearby is not None and self.lower_nearby[0] > self._counts

    @property
    def _counts(self) -> float:
        """A decrease of the loss that counts beside what is predicted, what was gained, and rounding."""
        return max(10 * (self.predicted or 0.0), 1e-3 * self.ending.fell, 1e3 * self.rounding)

    @cached_property
    def loose(self) -> bool:
        """Whether the user has set a tolerance above the method's own."""
        subject = self.subject
        rows = {} if subject.spec is None else subject.spec.options
        tolerances = {name: float(row.default or 0) for name, row in rows.items() if row.tolerance}
        tol = float(subject.arguments.get("tol") or 0)
        return any(float(subject.options.get(name, tol) or 0) > default for name, default in tolerances.items())

    @cached_property
    def tolerance_is_why(self) -> bool:
        """Whether a success is explained by a tiny loss, or by a tolerance that the user has set above its default."""
        size = max(self.ending.fell, abs(self.here.loss), self.predicted or 0.0)
        return self.ending.kind == "success" and (size / self.subject.loss_scale < 1e-4 or self.loose)

    @cached_property
    def unsettled(self) -> float | None:
        """How far the parameters are from the minimum along a flat valley, relative to them, where a method with usual
        tolerances reports success; None if they are near it, or if the loss does not determine them at all."""
        curvature = self.curvature
        if curvature is None or self.ending.kind != "success" or self.layered or self.at_floor or self.loose:
            return None
        small = max(self.ending.fell, abs(self.here.loss)) < _SMALL_LOSS * self.subject.loss_scale
        ill = curvature.condition >= (_ILL if curvature.whole else _ILL_AT_LEAST) and curvature.lowest > 0
        if small or not ill:
            return None
        size = max(float(np.linalg.norm(self.lab.z)), longest_step(self.lab))
        far = float(np.linalg.norm(curvature.stride)) / size if size > 0 else 0.0
        undetermined = far >= _UNSETTLED and self.flat_directions is not None and len(self.flat_directions) > 0
        return far if far >= _UNSETTLED and not undetermined else None

    @cached_property
    def trusts_slopes(self) -> bool:
        """Whether gradients may be asked about the end point; not where they are wrong, or jump, for a method that uses
        losses only."""
        return not self.subject.gradient_free or (self.mismatch is None and self.kink is None)

    @cached_property
    def converged(self) -> bool:
        """Whether the end point is a minimum as far as it can be seen."""
        ending, subject = self.ending, self.subject
        if not self.here.finite or ending.kind == "target":
            return self.here.finite
        if subject.constraints:
            residual = subject.end.get("kkt_residual")
            return ending.claims_success and (residual is None or residual <= ROUGH_KKT)
        if self.predicted is None or self.share_left is None or not self.trusts_slopes:
            return ending.claims_success
        if self.saddle or self.degenerate or self.unsettled is not None:
            return False
        exactly = self.share_left <= 1e-12 and self._step_left <= _SMALL_STEP
        return self.at_floor or (self.by_itself and self._little_is_left) or exactly

    @property
    def _step_left(self) -> float:
        return 0.0 if self.curvature is None else self.curvature.step

    @property
    def _little_is_left(self) -> bool:
        assert self.predicted is not None
        assert self.share_left is not None
        step = self._step_left
        if self.loose:
            return self.share_left <= _LOOSE or step <= _STEP
        if self.predicted > abs(self.here.loss) / 2 and step > _SMALL_STEP and not self.layered:
            return self.share_left <= _MOST
        short = step <= _STEP or (step <= _SMALL_STEP and self.predicted <= _OF_LOSS * abs(self.here.loss))
        return short or self.share_left <= _CONVERGED
