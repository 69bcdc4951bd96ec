"""The panel with what steers it: the curves of the runs, and a picture of the problem with the runs on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go

from ...analysis.profiles import Profile
from ...core.display.html import html, joined
from ...core.history.history import History
from ...errors import TorchminError
from ...explore import Call
from ..chart import Chart
from ..figures import Grid
from ..live_panel.header import Button, Header
from ..live_panel.state import PanelState, Sketch, panel_state
from ..live_panel.widget import PanelWidget
from ..panels import X_AXES, chosen_panels
from ..scene import Scene
from .canvas import sketch_of
from .fields import Range
from .jobs import SamplingJob
from .parts import button, dropdown, line
from .stage import HESSIAN, LANDSCAPE, ORDER, PCA, PROFILE, Shown, Stage, blank
from .words import explained, sentence

__all__ = ["Pictures"]

_LANE = "reduction ratio"
"""For this panel there is no room beside the landscape."""
_HINT = "There is no run yet. Press Run, and its loss and its gradient norm are drawn here."


class Pictures:
    """Draws what it is shown, and draws it anew when the person walks through a run or chooses another picture.

    height: of curves and picture, in pixels. lock: held while a choice is drawn; other callers hold it themselves.
    pressed(action, count) hears of the panel's buttons, clicked((x, y)) of clicks on the contours of a plane problem,
    sample() of the button.
    """

    def __init__(
        self,
        *,
        height: int,
        lock: AbstractContextManager[object],
        pressed: Callable[[str, int], None],
        clicked: Callable[[tuple[float, float]], object],
        sample: Callable[[], object],
    ):
        self._lock = lock
        self._clicked = clicked
        self._quiet = False
        self._shown = Shown({})
        self.stage: Stage | None = None
        self._height = max(height, Grid.of(("loss",), 0, None).height)
        self._state = self._curves()
        self.panel = PanelWidget(self._state, pressed=pressed, pointed=self._on_click)
        self.walk = Range(label="Iteration", hint="Move through the iterations of the run", disabled=True)
        self.walk.add_class("tm-walk")
        self.view = dropdown("Picture", [LANDSCAPE], LANDSCAPE, "Choose the right figure", "230px")
        self.sample_button = button("Sample the loss", "Evaluate the loss on a grid in this plane", sample)
        self.caption = line("", "tm-note", "tm-caption")
        self.walk.observe(lambda _: self._chosen(self._draw_picture), "value")
        self.view.observe(lambda _: self._chosen(self._draw_picture), "value")

    @property
    def figures(self) -> tuple[go.Figure, go.Figure]:
        """What is seen, as two plain figures: the curves, and the picture beside them."""
        curves = self._scene().drawing().figure()
        picture = self._state.picture
        return curves, go.Figure() if picture is None else go.Figure(list(picture.traces), picture.layout)

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
        self._state = self._curves(self._state)
        self._draw_picture()

    def tell(self, header: Header, buttons: tuple[Button, ...]) -> None:
        """What is said above, and what can be pressed."""
        self._publish(header=header, buttons=buttons)

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

    def _on_click(self, point: tuple[float, float]) -> None:
        if self.stage is not None and self.stage.plane:
            self._clicked(point)

    def _chosen(self, draw: Callable[[], None]) -> None:
        with self._lock:  # before the look at `_quiet`, which may be another thread's
            if not self._quiet:
                draw()

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Fields are set, and nothing is drawn for it."""
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    def _publish(self, **parts: Any) -> None:
        self._state = self._state._replace(**parts)
        self.panel.publish(self._state)

    # The curves, and the slider through them

    def _scene(self) -> Scene:
        histories = self._shown.histories
        panels = _fitting(histories, self._height)
        return Scene(histories, x=self.panel.x, panels=panels, scale=self.panel.scale, height=self._height)

    def _curves(self, before: PanelState | None = None) -> PanelState:
        """The state with these runs, and with what is said and drawn beside them as before."""
        histories = self._shown.histories
        header, buttons = (Header("ready", ""), ()) if before is None else (before.header, before.buttons)
        panels = _fitting(histories, self._height)
        state = panel_state(histories, header, buttons, panels=panels, height=self._height, told=1)
        return state._replace(
            layout={**state.layout, "height": self._height},
            hint="" if histories else _HINT,
            picture=None if before is None else before.picture,
        )

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

    def _cursor(self) -> dict[str, float] | None:
        """Where the iteration of the slider is on each x axis; None at the end."""
        history, at = self._shown.history, int(self.walk.value)
        if history is None or at >= self._shown.last:
            return None
        return {x: float(history.column(column)[at]) for x, column in X_AXES.items()}

    # The picture

    def _draw_picture(self) -> None:
        last = self._shown.last
        self.walk.text = f"{int(self.walk.value):,} of {last:,}" if last else "no run yet"
        if self.stage is None:
            self._publish(cursor=self._cursor())
            return
        view = self.view.value
        chart = self._chart(self.stage, view)
        sketch = sketch_of(chart, name=_name(view, self.stage.call), height=self._height)
        if view in (LANDSCAPE, ORDER):
            sketch = _without_runs(sketch, {entry.group for entry in self._state.legend})
        self._publish(cursor=self._cursor(), picture=sketch)
        title = html("<b>{title}</b>", title=chart.title) if chart.title else ""
        self.caption.value = joined(filter(None, (title, *chart.notes)), " ") if chart.layers else ""
        self._offer_sampling(self.stage, view)

    def _chart(self, stage: Stage, view: str) -> Chart:
        """The picture, or words where there is none."""
        try:
            return stage.chart(view, replace(self._shown, up_to=self._up_to()))
        except TorchminError as error:
            return blank(sentence(explained(error)))
        except (ValueError, RuntimeError, TypeError) as error:
            return blank(f"This picture cannot be drawn: {error}")

    def _offer_sampling(self, stage: Stage, view: str) -> None:
        history = self._shown.history
        through = view in (PCA, HESSIAN) and history is not None and history.keep_parameters
        wanted = through and not stage.sampled(view, self._shown.focus)
        self.sample_button.layout.display = "" if wanted else "none"
        if wanted:
            self.sample_button.description = f"Sample the loss ({stage.samples():,} closure calls)"


def _fitting(histories: Mapping[str, History], height: int) -> tuple[str, ...]:
    """The first panels, as many as there is room for: the loss in any case."""
    names = [name for name in chosen_panels(histories) if name != _LANE] if histories else ["loss"]
    while len(names) > 1 and Grid.of(names, 0, None).height > height:
        names.pop()
    return tuple(names)


def _without_runs(sketch: Sketch, named: set[str]) -> Sketch:
    """The legend of the panel has the runs already, in the same colours."""
    return sketch._replace(
        traces=[
            {**trace, "showlegend": False} if {trace.get("name"), trace.get("legendgroup")} <= named else trace
            for trace in sketch.traces
        ]
    )


def _name(view: str, call: Call) -> str:
    """What the axes of a picture are of."""
    return f"{view} {call.problem_key}"
