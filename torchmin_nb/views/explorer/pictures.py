"""The two figures with what steers them: the curves of the runs, and a picture of the problem with the runs on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from ...analysis.profiles import Profile
from ...core.display.html import html, joined
from ...errors import TorchminError
from ...explore import Call
from ..chart import Chart
from ..palette import INK
from ..panels import X_AXES, chosen_panels
from ..scene import VIEW_SCALES, Scene
from .canvas import Canvas
from .curves import Curves
from .fields import Range
from .jobs import SamplingJob
from .parts import button, column, dropdown, line
from .stage import HESSIAN, LANDSCAPE, PCA, PROFILE, Shown, Stage, blank
from .words import explained

__all__ = ["Pictures"]

_LANE = "reduction ratio"
"""For this panel there is no room beside the landscape."""


class Pictures:
    """Draws what it is shown, and draws it anew when the person walks through a run or chooses another picture.

    height: of each figure, in pixels. lock: held while a choice is drawn; other callers hold it themselves.
    clicked((x, y)) hears of clicks on the contours of a plane problem, sample() of the button.
    """

    def __init__(
        self,
        *,
        height: int,
        lock: AbstractContextManager[object],
        clicked: Callable[[tuple[float, float]], object],
        sample: Callable[[], object],
    ):
        self._height = height
        self._lock = lock
        self._clicked = clicked
        self._quiet = False
        self._shown = Shown({})
        self.stage: Stage | None = None
        self._canvas = Canvas(height=height, clicked=self._on_click)
        self._curves = Curves(height=height)
        self.places = column(self._curves.widget), column(self._canvas.widget)
        self.walk = Range(label="Iteration", hint="Move through the iterations of the run", disabled=True)
        self.walk.add_class("tm-walk")
        self.view = dropdown("Picture", [LANDSCAPE], LANDSCAPE, "Choose the right figure", "230px")
        self.x = dropdown("x axis", list(X_AXES), "iteration", "x axis of the curves", "160px")
        self.scale = dropdown("Scale", list(VIEW_SCALES), "log", "y scale of the curves", "150px")
        self.sample_button = button("Sample the loss", "Evaluate the loss on a grid in this plane", sample)
        self.caption = line("", "tm-note")
        for field in (self.x, self.scale):
            field.observe(lambda _: self._chosen(self._draw_curves, self._draw_cursor), "value")
        for field in (self.walk, self.view):
            field.observe(lambda _: self._chosen(self._draw_picture, self._draw_cursor), "value")

    @property
    def figures(self) -> tuple[Any, Any]:
        """The two FigureWidgets, left and right."""
        return self._curves.widget, self._canvas.widget

    def set_stage(self, stage: Stage) -> None:
        """Another problem, with the pictures that it has; nothing is drawn yet."""
        self.stage = stage
        views = stage.views()
        if tuple(self.view.options) != views:
            with self._quietly():
                held = self.view.value
                self.view.options = views
                self.view.value = held if held in views else views[0]

    def draw(self, shown: Shown) -> None:
        """These runs, walked as far as the slider says."""
        self._shown = shown
        self._draw_walk()
        self._draw_curves()
        self._draw_picture()
        self._draw_cursor()

    def set_profile(self, profile: Profile) -> None:
        """Another performance profile, which comes into view; nothing is drawn yet."""
        if self.stage is not None:
            self.stage.profile = profile
            with self._quietly():
                self.view.value = PROFILE

    def sampling(self) -> SamplingJob | None:
        """The sampling of the plane in view, begun; None where no run gives a plane."""
        history = self._shown.history
        if self.stage is None or history is None:
            return None
        return SamplingJob(self.stage, self.view.value, self._shown.focus, history)

    def renew(self) -> None:
        """Other figures, for another place of display: a FigureWidget cannot be shown a second time."""
        self._canvas.renew()
        self._curves.renew()
        for place, figure in zip(self.places, self.figures, strict=True):
            place.children = (figure,)
        self.draw(self._shown)

    def _on_click(self, point: tuple[float, float]) -> None:
        if self.stage is not None and self.stage.plane:
            self._clicked(point)

    def _chosen(self, *draw: Callable[[], None]) -> None:
        with self._lock:  # before the look at `_quiet`, which may be another thread's
            for each in () if self._quiet else draw:
                each()

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Fields are set, and nothing is drawn for it."""
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    # The curves, and the slider through them

    def _draw_curves(self) -> None:
        histories = self._shown.histories
        panels = tuple(name for name in chosen_panels(histories) if name != _LANE) if histories else ("loss",)
        self._curves.draw(Scene(histories, x=self.x.value, panels=panels, scale=self.scale.value, height=self._height))

    def _draw_walk(self) -> None:
        last = self._shown.last
        following = self._up_to() is None
        with self._quietly():
            self.walk.disabled = last == 0
            self.walk.max = float(max(1, last))
            if following or self.walk.value > last:
                self.walk.value = float(last)

    def _up_to(self) -> int | None:
        """How far the slider shows the runs; None for all."""
        return None if self.walk.disabled or self.walk.value >= self.walk.max else int(self.walk.value)

    def _draw_cursor(self) -> None:
        """The iteration of the slider in words, and as a line through the curves."""
        history, last = self._shown.history, self._shown.last
        at = int(self.walk.value)
        self.walk.text = f"{at:,} of {last:,}" if last else "no run yet"
        shapes = []
        if history is not None and at < last:
            x = float(history.column(X_AXES[self.x.value])[at])
            line = {"color": INK, "width": 1, "dash": "dot"}
            shapes = [{"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line}]
        layout = self._curves.widget.layout
        if shapes or layout.shapes:
            layout.shapes = shapes

    # The picture

    def _draw_picture(self) -> None:
        if self.stage is None:
            return
        view = self.view.value
        chart = self._chart(self.stage, view)
        self._canvas.draw(chart._replace(notes=()), key=_key(view, self.stage.call))
        title = html("<b>{title}</b>", title=chart.title) if chart.title else ""
        self.caption.value = joined(filter(None, (title, *chart.notes)), " ")
        self._offer_sampling(self.stage, view)

    def _chart(self, stage: Stage, view: str) -> Chart:
        """The picture, or words where there is none."""
        try:
            return stage.chart(view, replace(self._shown, up_to=self._up_to()))
        except TorchminError as error:
            return blank(explained(error))
        except (ValueError, RuntimeError, TypeError) as error:
            return blank(f"This picture cannot be drawn: {error}")

    def _offer_sampling(self, stage: Stage, view: str) -> None:
        history = self._shown.history
        through = view in (PCA, HESSIAN) and history is not None and history.keep_parameters
        wanted = through and not stage.sampled(view, self._shown.focus)
        self.sample_button.layout.display = "" if wanted else "none"
        if wanted:
            self.sample_button.description = f"Sample the loss ({stage.samples():,} closure calls)"


def _key(view: str, call: Call) -> str:
    """What the axes of a picture are of."""
    return f"{view} {call.problem_key}"
