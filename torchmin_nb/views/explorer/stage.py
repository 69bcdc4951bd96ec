"""The problem on show: its surface, sampled once, and the charts that runs on it have. No widgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...analysis.landscape import Landscape, Path, landscape_data, path_of
from ...analysis.order import order_of_convergence
from ...analysis.plane import Plane, hessian_plane, plane_landscape, trajectory_plane
from ...analysis.profiles import Profile
from ...analysis.step import explained_methods, step_data
from ...analysis.surface import Function, Levels, Surface, Window, sample, window_around
from ...core.history.history import History
from ...errors import ArgumentError
from ...explore import Call, Subject
from ...problems import Problem
from ..chart import Axis, Chart, Mark
from ..landscape import landscape_chart
from ..order_chart import order_chart
from ..palette import INK
from ..profile_chart import profile_chart
from ..step_chart import step_chart

__all__ = ["HESSIAN", "LANDSCAPE", "ORDER", "PCA", "PROFILE", "STEP", "Shown", "Stage", "blank"]

LANDSCAPE, STEP, ORDER = "Landscape", "Inside the step", "Order of convergence"
PCA, HESSIAN, PROFILE = "Plane of the run", "Plane of the Hessian", "Performance profile"
_RESOLUTION, _COARSE, _PLANE_RESOLUTION = 151, 41, 31
_REACH = 2.0


@dataclass(frozen=True)
class Shown:
    """What a picture shows: the histories on it by name, the one that is walked, and how far."""

    histories: Mapping[str, History]
    focus: str = ""
    up_to: int | None = None

    @property
    def history(self) -> History | None:
        """The run that is walked."""
        return self.histories.get(self.focus)

    @property
    def last(self) -> int:
        """The index of its last iteration; 0 without a run."""
        return max(0, len(self.history) - 1) if self.history is not None else 0


class Stage:
    """One problem as pictures show it.

    call: how it is made; only what concerns the problem is read. profile: of the last race over several problems.
    """

    def __init__(self, call: Call, problem: Problem):
        self.call = call
        self.problem = problem
        self.n = problem.n
        self._ground: Landscape | None = None
        self._planes: dict[str, Landscape] = {}
        self.profile: Profile | None = None

    @property
    def plane(self) -> bool:
        """Whether the loss is one of two numbers, and can be drawn as it is."""
        return self.n == 2 and self.problem.function is not None

    def holds(self, call: Call) -> bool:
        """Whether a run of this call is one on this problem."""
        return call.problem_key == self.call.problem_key

    def views(self) -> tuple[str, ...]:
        """The pictures that this problem has."""
        first = (LANDSCAPE,) if self.plane else (PCA, HESSIAN) if self.n > 1 else ()
        known = self.problem.best_loss is not None or bool(self.problem.minimizers)
        return (*first, STEP, *((ORDER,) if known else ()), PROFILE)

    def chart(self, view: str, scene: Shown) -> Chart:
        """The picture. Raises TorchminError with the reason where there is none to show."""
        return _CHARTS[view](self, scene)

    def sampled(self, view: str, name: str) -> bool:
        """Whether a plane's loss surface is there."""
        return _plane_key(view, name) in self._planes

    def sample_plane(self, view: str, name: str, history: History) -> None:
        """Evaluate the loss over a plane: of the run's trajectory, or of the Hessian at its end."""
        problem = self._fresh()
        parameters = list(problem.parameters)
        plane = _plane(view, history, problem)
        self._planes[_plane_key(view, name)] = plane_landscape(
            problem.closure, parameters, plane, history, resolution=_PLANE_RESOLUTION
        )

    def samples(self) -> int:
        """Closure calls that a plane takes."""
        return _PLANE_RESOLUTION**2

    def _fresh(self) -> Problem:
        """Parameters of its own, where there can be; a model's are put back by those who move them."""
        return self.call.make(place=False)

    def ground(self) -> Landscape:
        """The contours without a run, sampled at the first call."""
        if self._ground is None:
            self._ground = self._sampled(self.problem.window or self._window())
        return self._ground

    def _window(self) -> Window:
        x = self.problem.x.to(torch.float64).tolist()
        reach = _REACH * max(1.0, *map(abs, x))
        return (x[0] - reach, x[0] + reach), (x[1] - reach, x[1] + reach)

    def _sampled(self, window: Window) -> Landscape:
        problem = self.problem
        return landscape_data(
            _surface(self.call, problem, window),
            minimizers=problem.minimizers,
            best_loss=problem.best_loss,
            bounds=_numbers(problem.bounds) if self.call.bounds else None,
            constraints=problem.constraints if self.call.constraints else (),
        )

    def _landscape(self, scene: Shown) -> Chart:
        ground = self.ground()
        paths = tuple(
            path_of(name, history, up_to=_last(history, scene.up_to), region=name == scene.focus, scale=np.ones(2))
            for name, history in scene.histories.items()
            if len(history) and history.keep_parameters
        )
        chart = landscape_chart(ground._replace(paths=paths))
        return chart._replace(layers=(*chart.layers, *self._next_start(paths)))

    def _next_start(self, paths: tuple[Path, ...]) -> list[Mark]:
        """Where the next run begins, if none has begun there."""
        x = self.problem.x.to(torch.float64).numpy()
        if any(len(path.iterates) and np.allclose(path.iterates[0], x, rtol=1e-6) for path in paths):
            return []
        return [
            Mark(x[:1], x[1:], "next start", INK, "", 2, "cross", 11, texts=(f"next start\n{x[0]:.5g}, {x[1]:.5g}",))
        ]

    def _step(self, scene: Shown) -> Chart:
        history = _walked(scene)
        if history.method not in explained_methods():
            raise ArgumentError(
                f"a step of {history.method} cannot be drawn: choose a run by one of {', '.join(explained_methods())}"
            )
        if len(history) < 2:
            raise ArgumentError("there is no step yet; press Run")
        last = len(history) - 1 if scene.up_to is None else scene.up_to
        k = min(max(last - 1, 0), len(history) - 2)
        problem = self._fresh()
        if problem.function is not None:
            return step_chart(step_data(problem.function, history, k), history.method, problem.function)
        step = step_data(problem.closure, history, k, parameters=list(problem.parameters))
        return step_chart(step, history.method, problem.closure)

    def _order(self, scene: Shown) -> Chart:
        orders = []
        for name, history in scene.histories.items():
            if len(history) > 1:
                nearest = _nearest(self.problem, history)
                known = {"best_loss": self.problem.best_loss} if nearest is None else {"minimizer": nearest}
                orders.append(order_of_convergence(history, name=name, **known))
        if not orders:
            raise ArgumentError("the order of convergence needs a run; press Run")
        measures = {order.measure for order in orders}
        return order_chart(
            [order for order in orders if order.measure == orders[0].measure] if len(measures) > 1 else orders
        )

    def _through(self, view: str, scene: Shown) -> Chart:
        history = _walked(scene)
        if not len(history) or not history.keep_parameters:
            raise ArgumentError("the trajectory of this run was not kept: it is too long or too large")
        made = self._planes.get(_plane_key(view, scene.focus))
        if made is None:
            if view != PCA:
                raise ArgumentError("sample the loss first: the plane comes from the Hessian at the end of the run")
            made = _unsampled(trajectory_plane({scene.focus: history}), history)
        up_to = len(history) - 1 if scene.up_to is None else min(scene.up_to, len(history) - 1)
        path = made.paths[0]
        shown = path._replace(
            name=scene.focus,
            iterates=path.iterates[: up_to + 1],
            losses=path.losses[: up_to + 1],
            ended=up_to >= len(path.iterates) - 1,
        )
        return landscape_chart(made._replace(paths=(shown,)))

    def _raced(self) -> Chart:
        if self.profile is None:
            raise ArgumentError("race some methods on several problems or starts first, in the tab Race")
        return profile_chart(self.profile, "Performance profile")


def blank(words: str = "") -> Chart:
    """A picture of nothing, which says why."""
    return Chart((), Axis(""), Axis(""), "", (words,) if words else ())


def _surface(call: Call, problem: Problem, window: Window) -> Any:
    if isinstance(call.problem, Subject) and call.problem.function is not None:
        try:
            return sample(call.problem.function, window, _RESOLUTION)
        except (ArgumentError, RuntimeError, IndexError, TypeError, ValueError):
            return sample(_function(problem), window, _COARSE)  # a point at a time
    return sample(_function(problem), window, _RESOLUTION)


def _function(problem: Problem) -> Function:
    assert problem.function is not None
    return problem.function


def _numbers(bounds: tuple[Any, Any] | None) -> tuple[Any, Any] | None:
    """Bounds as arrays; tensors of any shape among them."""
    if bounds is None:
        return None
    low, high = (
        side.detach().to(torch.float64).numpy().ravel() if isinstance(side, torch.Tensor) else side for side in bounds
    )
    return low, high


def _last(history: History, up_to: int | None) -> int:
    """The last iterate to show: the history of an active run grows while it is read."""
    return len(history) - 1 if up_to is None else up_to


def _walked(scene: Shown) -> History:
    history = scene.history
    if history is None or not len(history):
        raise ArgumentError("there is no run to show yet; press Run")
    return history


def _nearest(problem: Problem, history: History) -> np.ndarray[Any, Any] | None:
    """The known minimizer that the run ends nearest to; None where the loss tells better."""
    if not problem.minimizers or not history.keep_parameters:
        return None
    minima = np.array(problem.minimizers, dtype=float)
    end = history.parameters[-1]
    return np.asarray(minima[int(np.linalg.norm(minima - end, axis=1).argmin())])


def _plane(view: str, history: History, problem: Problem) -> Plane:
    if view == PCA:
        return trajectory_plane(history)
    return hessian_plane(problem.closure, problem.parameters, at=history.parameters[-1])


def _unsampled(plane: Plane, history: History) -> Landscape:
    """The run in its plane, before the loss was sampled there."""
    points = plane.project(history.parameters)
    (left, right), (bottom, top) = window_around(points)
    nothing = np.empty((0, 2))
    surface = Surface(np.array([left, right]), np.array([bottom, top]), np.full((2, 2), np.nan))
    path = Path("", points, history.loss, nothing, nothing, nothing, len(points) - 1, ended=True)
    levels = Levels(np.zeros(1), np.zeros(1), log=False, floor=0.0)
    share = sum(plane.share or (0.0, 0.0))
    note = f"The plane holds {share:.1%} of the trajectory's variance. Sample the loss to see its contours."
    return Landscape(surface, levels, (path,), nothing, None, (), plane.names, note)


def _plane_key(view: str, name: str) -> str:
    return f"{view}\n{name}"


_CHARTS: Mapping[str, Callable[[Stage, Shown], Chart]] = {
    LANDSCAPE: Stage._landscape,
    STEP: Stage._step,
    ORDER: Stage._order,
    PCA: lambda stage, scene: stage._through(PCA, scene),
    HESSIAN: lambda stage, scene: stage._through(HESSIAN, scene),
    PROFILE: lambda stage, _: stage._raced(),
}
