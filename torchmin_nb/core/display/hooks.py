"""Hooks that packages above implement: views show runs and histories, the doctor examines runs. core imports none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = [
    "animated_by",
    "animated_page",
    "comparison_shown_by",
    "diagnosed_by",
    "diagnosis",
    "histories_page",
    "panel_shown_by",
    "rescue_shown_by",
    "run_watched_by",
    "show_comparison",
    "show_panel",
    "show_rescue",
    "show_store",
    "store_shown_by",
    "watch_run",
]

_animate: Callable[..., str] | None = None
_show_panel: Callable[[Any], None] | None = None
_watch_run: Callable[[Any, float], None] | None = None
_show_comparison: Callable[[Any], None] | None = None
_histories_page: Callable[..., str] | None = None
_show_store: Callable[[Any], bool] | None = None
_diagnose: Callable[..., Any] | None = None
_show_rescue: Callable[[Any, Any], None] | None = None


def animated_by(render: Callable[..., str]) -> None:
    """Register the function that turns a history into an animated page."""
    global _animate
    _animate = render


def animated_page(history: Any, **shown: Any) -> str:
    """The history as an animated HTML page, by the function that `animated_by` registered."""
    if _animate is None:
        raise ImportError("animated pages need plotly: pip install 'torchmin-nb[notebook]'")
    return _animate(history, **shown)


def panel_shown_by(show: Callable[[Any], None]) -> None:
    """Register the function that shows a run in a notebook."""
    global _show_panel
    _show_panel = show


def show_panel(run: Any) -> None:
    """Show the panel of a run, or its text if no views are registered."""
    if _show_panel is None:
        print(repr(run))
    else:
        _show_panel(run)


def run_watched_by(watch: Callable[[Any, float], None]) -> None:
    """Register the function that redraws a run until it pauses or ends."""
    global _watch_run
    _watch_run = watch


def watch_run(run: Any, interval: float) -> None:
    """Redraw a run until it pauses or ends, by the function that `run_watched_by` registered."""
    if _watch_run is None:
        run.wait_until_paused()
        print(repr(run))
    else:
        _watch_run(run, interval)


def comparison_shown_by(show: Callable[[Any], None], page: Callable[..., str]) -> None:
    """Register the function that shows a comparison while it runs, and the one that draws histories as HTML."""
    global _show_comparison, _histories_page
    _show_comparison, _histories_page = show, page


def show_comparison(comparison: Any) -> None:
    """Show a comparison while it runs, if views are registered."""
    if _show_comparison is not None:
        _show_comparison(comparison)


def histories_page(histories: Any, **shown: Any) -> str:
    """Histories by name as a figure in HTML that needs no network; empty without views, and without iterations."""
    if _histories_page is None or not any(map(len, histories.values())):
        return ""
    return _histories_page(histories, **shown)


def store_shown_by(show: Callable[[Any], bool]) -> None:
    """Register the function that shows the runs of a store where they can be used with the mouse."""
    global _show_store
    _show_store = show


def show_store(store: Any) -> bool:
    """Show the runs of a store in the cell that is running; whether that could be done."""
    return _show_store is not None and _show_store(store)


def diagnosed_by(diagnose: Callable[..., Any]) -> None:
    """Register the function that examines a run: (optimizer, closure, run, budget) -> Report."""
    global _diagnose
    _diagnose = diagnose


def diagnosis(optimizer: Any, closure: Any, *, run: Any = None, budget: int | None = None) -> Any:
    """Why a run ended where it did, by the function that `diagnosed_by` registered."""
    assert _diagnose is not None, "torchmin_nb registers it"
    return _diagnose(optimizer, closure, run=run, budget=budget)


def rescue_shown_by(show: Callable[[Any, Any], None]) -> None:
    """Register the function that shows what the remedies of a report did."""
    global _show_rescue
    _show_rescue = show


def show_rescue(histories: Any, report: Any) -> None:
    """Show the curves of remedies by name, if views are registered."""
    if _show_rescue is not None:
        _show_rescue(histories, report)
