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
from .curvature import Curvature, Scaling, curvature_of, free_of_bounds, scaling_of
from .ending import Ending, ending_of
from .feasibility import Feasibility, feasibility_of
from .laboratory import ClosureFailed, Laboratory, OutOfBudget, Sample
from .layers import FirstNonFinite, Watch
from .precision import DoubleTrial, coarsest_eps, double_trial, noise_of
from .slopes import Kink, Mismatch, kink_of, mismatch_of, sizes_of
from .squares import is_sum_of_squares
from .subject import Subject

__all__ = ["Examination"]

T = TypeVar("T")

if TYPE_CHECKING:
    probe = cached_property
else:

    def probe(ask: Callable[[Any], T]) -> Any:
        """A cached answer that is None if the budget does not allow it, or the closure fails while it is sought."""

        def asked(self: Any) -> T | None:
            try:
                return ask(self)
            except (OutOfBudget, ClosureFailed, ClosureError, np.linalg.LinAlgError):
                return None

        asked.__name__ = ask.__name__
        asked.__doc__ = ask.__doc__
        return cached_property(asked)


_CONVERGED = 1e-4
"""Converged, if a method says so and a Newton step would lower the loss by less than this part of what the run did."""


class Examination:
    """The answers about one subject. lab: what evaluates, and counts."""

    def __init__(self, subject: Subject, lab: Laboratory):
        self.subject, self.lab = subject, lab

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
        return None if self.gradient is None else mismatch_of(self.lab)

    @probe
    def kink(self) -> Kink | None:
        """A kink at the end point."""
        return None if self.gradient is None else kink_of(self.lab, self.gradient, self.typical_slope)

    @probe
    def noise(self) -> float | None:
        """The measured noise of the loss."""
        return noise_of(self.lab)

    @probe
    def curvature(self) -> Curvature | None:
        """The Hessian's extremes and the predicted decrease."""
        if self.gradient is None or self.subject.constraints:
            return None
        return curvature_of(self.lab, self.gradient, self.free, reserve=16)

    @probe
    def gain_downhill(self) -> tuple[float, float] | None:
        """How far the loss falls along the direction of negative curvature, and at which distance; None without."""
        curvature = self.curvature
        if curvature is None or curvature.lowest >= -1e-10 * abs(curvature.highest):
            return None
        reach = float(np.linalg.norm(sizes_of(self.lab)))
        best = (0.0, 0.0)
        for share in (0.01, 0.1, 0.5):
            for side in (1.0, -1.0):
                loss = self.lab.loss(self.lab.z + side * share * reach * curvature.direction)
                if self.here.loss - loss > best[0]:
                    best = (self.here.loss - loss, side * share * reach)
        return best

    @probe
    def lower_nearby(self) -> tuple[float, float] | None:
        """By how much the loss is lower at a point close by, and its distance, where the Hessian does not show it."""
        curvature = self.curvature
        if curvature is None:
            return None
        random, sizes, best = np.random.default_rng(5), sizes_of(self.lab), (0.0, 0.0)
        for _ in range(2):
            step = 0.02 * sizes * random.choice([-1.0, 1.0], sizes.size) * random.uniform(0.5, 1.0, sizes.size)
            for side in (1.0, -1.0):
                fall = self.here.loss - self.lab.loss(self.lab.z + side * step)
                best = max(best, (fall, float(np.linalg.norm(step))))
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
        random, sizes = np.random.default_rng(3), sizes_of(self.lab)
        points = [self.lab.z + 0.1 * sizes * random.choice([-1.0, 1.0], sizes.size) for _ in range(2)]
        changes = [abs(self.lab.loss(point) - self.here.loss) for point in points]
        return max(changes) / (abs(self.here.loss) or 1.0)

    @probe
    def scaling(self) -> Scaling | None:
        """A scale of the variables that would mend the condition."""
        return None if self.curvature is None else scaling_of(self.lab, self.curvature, self.free)

    @probe
    def flat_directions(self) -> NDArray[np.float64] | None:
        """Unit directions (k, n) along which the loss stays the same, also far away, on a line or on a curve."""
        curvature = self.curvature
        if curvature is None or not len(curvature.null) or curvature.matrix is None:
            return None
        kept = [direction for direction in curvature.null[:3] if self._leads_far(direction, curvature.matrix)]
        return curvature.null if len(kept) == len(curvature.null[:3]) else np.array(kept).reshape(-1, self.lab.z.size)

    def _leads_far(self, direction: NDArray[np.float64], matrix: NDArray[np.float64]) -> bool:
        """Whether the loss is the same again a tenth of the variables' size along this direction, and then downhill."""
        reach = 0.1 * float(np.linalg.norm(sizes_of(self.lab)))
        allowed = min(1e-3 * abs(self.here.loss), max(100 * self.rounding, 1e-13 * self.ending.fell))
        z = self.lab.z + reach * direction
        inverse = np.linalg.pinv(matrix, rcond=1e-4, hermitian=True)
        first = 0.0
        for _ in range(6):
            sample = self.lab.sample(z)
            if not sample.finite or sample.gradient is None:
                return False
            excess = abs(sample.loss - self.here.loss)
            first = first or excess
            if excess <= max(allowed, 1e-5 * first * (first > excess)):
                return abs(float((z - self.lab.z) @ direction)) > 0.5 * reach
            step = np.zeros(z.size)
            step[self.free] = inverse @ sample.gradient[self.free]
            z = z - step
        return False

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
        """Whether float64 would go on; None in float64."""
        if not self.subject.single or self.gradient is None:
            return None
        trial, lab = double_trial(self.subject, self.free, self.lab.left)
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

    # Conclusions

    @cached_property
    def predicted(self) -> float | None:
        """By how much a Newton step would lower the loss; None if unknown.

        Of a float32 run that reports no success: as float64 sees it, or with slopes that may be rounding.
        """
        if self.curvature is None:
            return None
        if not self.subject.single or self.ending.claims_success:
            return self.curvature.predicted
        if self.double is not None and self.double.follows:
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
        """Whether the loss falls much further along negative curvature than along its gradient."""
        gain = self.gain_downhill
        return gain is not None and gain[0] > self._counts

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
    def tolerance_is_why(self) -> bool:
        """Whether a success is explained by a tiny loss, or by a tolerance that the user has set above its default."""
        subject = self.subject
        rows = {} if subject.spec is None else subject.spec.options
        loose = [
            name
            for name, value in subject.options.items()
            if name in rows and rows[name].tolerance and float(value or 0) > float(rows[name].default or 0)
        ]
        tiny = max(self.ending.fell, abs(self.here.loss), self.predicted or 0.0) < 1e-4
        return self.ending.kind == "success" and bool(tiny or loose or subject.arguments.get("tol"))

    @cached_property
    def converged(self) -> bool:
        """Whether the end point is a minimum as far as it can be seen."""
        ending, subject = self.ending, self.subject
        if not self.here.finite or ending.kind == "target":
            return self.here.finite
        if subject.constraints:
            residual = subject.end.get("kkt_residual")
            return ending.claims_success and (residual is None or residual <= 1e-3)
        if self.predicted is None or self.share_left is None:
            return ending.claims_success
        if self.saddle or self.degenerate:
            return False
        tiny = self.curvature is not None and self.curvature.step <= math.sqrt(subject.flat.eps)
        claimed = ending.claims_success or ending.kind in ("search", "floor", "stalled", "other")
        return self.at_floor or (claimed and (self.share_left <= _CONVERGED or tiny)) or self.share_left <= 1e-12
