"""The controls of a run: start, pause, step, so many steps, stop; scale and x axis of its picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from ..core.display.html import Html, html
from ..core.execution.run import PAUSED, PENDING, RUNNING, Run
from ..errors import text_of
from .panels import X_AXES
from .scene import VIEW_SCALES

__all__ = ["Controls"]

_GO = {PENDING: "Start", PAUSED: "Resume", RUNNING: "Pause"}
"""The main button by state. No icons: a screen reader would read out their private characters."""
_SCALE_WORDS = {"log": "log", "linear": "linear", "loss - best": "loss − best"}


class Controls:
    """Buttons that steer one run, and the choices "scale" and "x". A choice calls `changed(name, value)`.

    The main button is Start, Pause or Resume, as the state of the run has it, so that the keyboard's focus stays on it.
    """

    def __init__(self, run: Run, *, scale: str, x: str, changed: Callable[[str, str], None]):
        self._run = run
        self._state = ""
        self.go = _button("Start", "Start, pause or resume the run", self._go, width="7.5em", style="primary")
        self.step = _button("Step", "One iteration, then pause", self._step)
        self.many = _button("+10", "This many iterations, then pause", self._many, width="6.5em")
        self.count = widgets.BoundedIntText(
            10, min=1, max=10_000_000, tooltip="Number of iterations for this button", layout=_width("5.5em")
        )
        self.count.observe(self._count_changed, "value")
        self.stop = _button("Stop", "End the run at the best point", self._stop, style="warning")
        self.scale = _choice("scale", [(_SCALE_WORDS[name], name) for name in VIEW_SCALES], scale, changed, "10.5em")
        self.x = _choice("x", list(X_AXES), x, changed, "12em", label="x axis")
        self.widget = widgets.HBox(
            [self.go, self.step, self.many, self.count, self.stop, self.scale, self.x],
            layout=widgets.Layout(flex_flow="row wrap", align_items="center", padding="0 0 4px 0"),
        )
        self._display: Any = None
        self.show_state(run.state)

    def open(self) -> None:
        """Show them in the cell that is running."""
        from IPython.display import display

        self._display = display(self.widget, display_id=True)

    def show_state(self, state: str) -> None:
        """Name and enable the buttons as the state of the run has it."""
        if state == self._state or state not in _GO:
            return
        self._state = state
        self.go.description = _GO[state]
        self.step.disabled = self.many.disabled = state == RUNNING

    def end(self) -> None:
        """Give way to what there is to say of a run that is over: a saved notebook could not show the widgets."""
        if self._display is not None:
            self._display.update({"text/html": _epilogue(self._run), "text/plain": repr(self._run)}, raw=True)
        self.close()

    def close(self) -> None:
        """Free the widgets, with the layouts and styles that are widgets too."""
        for widget in (*self.widget.children, self.widget):
            for part in (widget, widget.layout, getattr(widget, "style", None)):
                if part is not None:
                    part.close()

    def _go(self, _: Any) -> None:
        if self._run.state == RUNNING:
            self._run.pause()
        else:
            self._run.resume()

    def _step(self, _: Any) -> None:
        self._run.advance(1)

    def _many(self, _: Any) -> None:
        self._run.advance(self.count.value)

    def _count_changed(self, change: Any) -> None:
        self.many.description = f"+{change['new']:,}"

    def _stop(self, _: Any) -> None:
        self._run.stop()


def _button(
    label: str, tooltip: str, act: Callable[[Any], None], *, width: str = "6em", style: str = ""
) -> widgets.Button:
    button = widgets.Button(description=label, tooltip=tooltip, button_style=style, layout=_width(width))
    button.on_click(act)
    return button


def _choice(
    name: str, options: list[Any], value: str, changed: Callable[[str, str], None], width: str, label: str = ""
) -> widgets.Dropdown:
    choice = widgets.Dropdown(
        options=options,
        value=value,
        description=label or name,
        layout=_width(width),
        style={"description_width": "initial"},
    )
    choice.observe(lambda change: changed(name, change["new"]), "value")
    return choice


def _width(width: str) -> widgets.Layout:
    return widgets.Layout(width=width)


def _epilogue(run: Run) -> Html:
    """The cost of the run in words; of a failed one the error, with what to do about it."""
    if run.exception is not None:
        error = run.exception
        return html(
            '<div role="alert" style="border-left:3px solid #D55E00;padding-left:8px"><b>{kind}</b>: {message}'
            "<br><small>run.wait() raises it, with its traceback.</small></div>",
            kind=type(error).__name__,
            message=text_of(error),
        )
    totals = run.history.totals
    if totals is None:
        return Html()
    counts = {"closure calls": totals.nfev, "gradients": totals.njev, "Hessians": totals.nhev, "HVPs": totals.nhvp}
    counted = " · ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    form = '<div style="opacity:0.75;padding-left:12px">{counted} · {seconds} s</div>'
    return html(form, counted=counted, seconds=f"{totals.seconds:.2f}")
