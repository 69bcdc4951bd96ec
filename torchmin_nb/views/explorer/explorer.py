"""MethodExplorer: the panel in which a person finds out which method suits a problem."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...core.history.history import History
from ...core.signatures import shares_parameters
from ...explore import Call, Form, Reading, RunTable, Subject, Traits, subject_of
from ..cells import Cells, place_here
from ..frontend import HEADLESS, TERMINAL, front_end
from . import remember
from .words import explained
from .workbench import Workbench

__all__ = ["MethodExplorer"]


@shares_parameters(subject_of)
class MethodExplorer:
    """A panel to choose a problem and a method, run it, watch it, and compare: as the last line of a cell.

    ``MethodExplorer()`` has the problems of `torchmin_nb.problems`. ``MethodExplorer(function, x0)`` also has one of
    yours. ``MethodExplorer(model=model, closure=closure)`` also has the loss of a model, whose parameters are put back
    to where they were before each run. If its cell is run again, it shows the same choices and runs. It raises nothing:
    what is wrong stands in the panel.

    Parameters
    ----------
    {shared}
    height : int, optional
        Height of the curves and of the picture beside them, in pixels. Default 370, with room for two panels of
        curves; 500 has room for three.

    Attributes
    ----------
    problem : widget
        The menu of problems.
    method : widget
        The menu of methods.
    engine : widget
        The choice of the engine.
    run_button : object
        Starts a run. ``run_button.click()`` does what a click does.
    pause_button : object
        Pauses the run, and resumes it.
    step_button : object
        Makes one iteration, then pauses.
    stop_button : object
        Ends the run at the best point seen.
    speed : widget
        How long each iteration is held.
    panel : widget
        Curves and picture. Its `x` and `scale` are the x axis and the scale of the curves.
    view : widget
        What the picture beside the curves shows.
    walk : widget
        The slider over the iterations.
    options : object
        The fields of the options.
    compare : object
        The drawer with the table of runs.
    race : object
        The drawer with races.
    files : object
        The drawer with files and code.

    Examples
    --------
    >>> explorer = MethodExplorer(lambda x: ((x - 3) ** 2).sum(), [0.0, 0.0], name="two squares")
    >>> explorer.method.value = "BFGS"
    >>> explorer.run_button.click()
    >>> explorer.wait(), explorer.table.names
    (True, ('BFGS',))
    >>> explorer.close()
    """

    # No widget holds it, and no thread: so one that is dropped is freed, and its workbench is closed with it.

    def __init__(
        self,
        function: Callable[[torch.Tensor], torch.Tensor] | None = None,
        x0: Any = None,
        *,
        model: torch.nn.Module | Sequence[torch.nn.Parameter] | None = None,
        closure: Callable[[], torch.Tensor] | None = None,
        name: str | None = None,
        bounds: tuple[Any, Any] | None = None,
        constraints: Sequence[Any] = (),
        residuals: Callable[..., torch.Tensor] | None = None,
        height: int = 370,
    ):
        subject: Subject | None = None
        message = ""
        try:
            subject = subject_of(
                function,
                x0,
                model=model,
                closure=closure,
                name=name,
                bounds=bounds,
                constraints=constraints,
                residuals=residuals,
            )
        except Exception as error:
            message = f"{explained(error).rstrip('.')}. The panel now offers the problems of the gallery."
        self._bench = Workbench(subject, message=message, height=height)
        weakref.finalize(self, self._bench.close)
        self._name_widgets()
        self._displays: list[Any] = []
        self._place = place_here()
        before = _cells.previous(self._place)
        if before is not None:
            self._bench.recall(before.memory())
            before.close(picture=False)

    def _name_widgets(self) -> None:
        bench = self._bench
        form, steering, pictures = bench.form, bench.steering, bench.pictures
        self.widget, self.drawers, self.panel = bench.widget, bench.drawers, pictures.panel
        self.problem, self.method, self.engine = form.problem.menu, form.method.menu, form.method.engine
        self.options, self.budget, self.speed = form.options, form.budget, form.speed
        self.compare, self.race, self.files = bench.compare, bench.race, bench.files
        self.run_button, self.pause_button = steering.run, steering.pause
        self.step_button, self.stop_button = steering.step, steering.stop
        self.walk, self.view = pictures.walk, pictures.view
        self.sample_button, self.caption = pictures.sample_button, pictures.caption

    # What it says

    @property
    def form(self) -> Form:
        """The raw values of all fields."""
        return self._bench.form.raw

    @property
    def reading(self) -> Reading:
        """The form after reading: the call, or what is wrong in which field."""
        return self._bench.form.reading

    @property
    def call(self) -> Call | None:
        """The run that the form stands for; None if a field is wrong."""
        return self.reading.call

    @property
    def traits(self) -> Traits | None:
        """The traits of the problem, by which methods are judged."""
        return self._bench.form.traits

    @property
    def table(self) -> RunTable:
        """All runs so far."""
        return self.compare.table

    @property
    def status(self) -> str:
        """What the panel says of the run, the race or the sampling, in one line."""
        return self._bench.header.line()

    @property
    def alert(self) -> str:
        """What the panel says is wrong; empty if nothing is."""
        return self._bench.alert

    @property
    def figures(self) -> tuple[Any, Any]:
        """Two plain Plotly figures of what is seen: the curves, and the picture beside them."""
        return self._bench.pictures.figures

    def histories(self) -> dict[str, History]:
        """The runs on the present problem that are drawn, by name.

        They are the first dozen of the table, and the one under way.
        """
        return dict(self._bench.shown.histories)

    @property
    def running(self) -> bool:
        """Whether a run, a race or a sampling is running."""
        return self._bench.conductor.running

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing runs any more and everything is drawn.

        A run that is paused does not end by itself.

        Parameters
        ----------
        timeout : float or None, optional
            Seconds to wait. Default: no limit.

        Returns
        -------
        bool
            Whether nothing runs any more.
        """
        return self._bench.conductor.wait(timeout)

    def memory(self) -> remember.Memory:
        """What the same panel shows when its cell is run again."""
        return self._bench.memory()

    # Shown and closed

    def _ipython_display_(self) -> None:
        where = front_end()
        if where == TERMINAL or self._bench.closed:
            print(repr(self))
            return
        from IPython.display import display

        if where == HEADLESS:
            display(self._picture(), raw=True)
            return
        self._bench.offer_methods()
        _cells.register(self._place, self)
        self._displays.append(display(self.widget, display_id=True))

    def _picture(self) -> dict[str, Any]:
        from ..bundle import bundle, picture
        from ..figures import drawing

        histories = self.histories()
        if not histories:
            return {"text/plain": repr(self)}
        drawn = drawing(histories)
        return bundle(drawn.figure(), repr(self), picture(drawn))

    def close(self, *, picture: bool = True) -> None:
        """Stop what runs; free threads, widgets and figures.

        Parameters
        ----------
        picture : bool, optional
            True, the default: a picture of the runs stays where the panel was.
        """
        with self._bench.lock:
            if self._bench.closed:
                return
            left = self._picture() if picture and self._displays else None
            self._bench.close()
            _cells.unregister(self)
        if left is not None:
            for each in self._displays:
                each.update(left, raw=True)

    def __repr__(self) -> str:
        count = len(self.table)
        return f"<MethodExplorer: {self.problem.value}, {self.method.value}, {count} run{'s' * (count != 1)}>"


_cells: Cells[MethodExplorer] = Cells()
