"""`compare`: methods on your own model, with the same start and budget, ranked, with the code of the best."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import torch

from ..core.autodiff.closure_check import check_closure
from ..core.display.hooks import histories_page, show_comparison
from ..core.display.html import Html, html, html_page, html_table
from ..core.display.tables import text_table
from ..core.execution.run import Run
from ..core.history.history import History
from ..core.history.priced import priced
from ..core.parameters.flat import FlatParameters, trainable
from ..core.runtime.workers import WorkerThread, interruptible
from ..core.storage.atomic_files import write_text
from ..core.validation import count, positive
from ..errors import ArgumentError, ArgumentTypeError, BusyError, text_of
from .contenders import Contender, Task, contenders
from .ranking import CLOSE, Budget, Compared, Finished, Ranking

__all__ = ["Comparison", "compare"]

_BUDGET = 500
_SHIFT = 0.1
"""Starts besides the model's own: each tensor is moved by this share of its size, at random."""
_claims: set[int] = set()
_claims_lock = threading.Lock()


class Comparison:
    """Methods compared on one model, while they run and afterwards. Shown, it is a ranked table with a recommendation.

    Attributes
    ----------
    names : list of str
        The methods, in the order in which they run.
    rows : list of Compared
        The runs that have ended, best first.
    best : Compared or None
        The recommended method's run from the model's own start.
    sure : bool
        Whether the recommended method was the best, or within a factor of 1.2 of it, on each of at least five starts,
        had a sixth of the budget left when it was, and got about as low from each start.
    recommendation : str
        Which method to take, why, and how sure it is.
    code : str
        Python code that runs the recommended method with its panel; it uses the names `model` and `closure`.
    histories : dict of str to History
        The histories by name, also of the run that goes on.
    over : bool
        Whether all runs have ended.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    >>> comparison = compare([x], lambda: (x**4).sum(), ["CG", "Adam"], budget=50, background=True)
    >>> comparison.wait().over, [row.name for row in comparison.rows]
    (True, ['CG', 'torch.Adam'])
    """

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        modules: Sequence[torch.nn.Module],
        closure: Callable[[], Any],
        methods: Sequence[Contender],
        budget: Budget,
        starts: list[Callable[[], None]],
        *,
        accuracy: float,
        label: str,
    ):
        self.names = [each.name for each in methods]
        self._contenders = list(methods)
        self._closure, self._budget, self._accuracy, self._label = closure, budget, accuracy, label
        self._starts = starts
        self._state = _ModelState(parameters, modules)
        self._finished: list[Finished] = []
        self._current: tuple[str, Run] | None = None
        self._paused = self._stopped = self._over = False
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._listeners: list[Callable[[], object]] = []
        self._thread = WorkerThread(self._work, name="torchmin_nb compare", stop=self.stop)

    # Steering

    def pause(self) -> None:
        """Pause the run that is under way at its next closure call."""
        with self._lock:
            self._paused = True
            if self._current is not None:
                self._current[1].pause()

    def resume(self) -> None:
        """Go on."""
        with self._lock:
            self._paused = False
            if self._current is not None:
                self._current[1].resume()

    def stop(self) -> None:
        """End the run that is under way, and begin no other. The rows so far stay."""
        with self._lock:
            self._stopped = True
            if self._current is not None:
                self._current[1].stop()

    def wait(self, timeout: float | None = None) -> Comparison:
        """Wait for the end. A KeyboardInterrupt stops the comparison, which then has the rows so far.

        Parameters
        ----------
        timeout : float or None, optional
            Seconds to wait. Default: no limit.

        Returns
        -------
        Comparison
            This one.

        Raises
        ------
        TimeoutError
            If it has not ended by then. It goes on.
        """
        try:
            if not interruptible(lambda seconds: self._ended.wait(seconds) or None, timeout):
                raise TimeoutError(f"the comparison has not ended after {timeout} s; it goes on")
        except KeyboardInterrupt:
            self.stop()
            self._ended.wait()
        if self._error is not None:
            raise self._error
        return self

    def start(self) -> None:
        """Begin. `compare` calls it."""
        try:
            self._thread.start()
        except BaseException:
            if self._thread.ident is None:  # it will never end
                self._state.release()
                self._ended.set()
            raise

    def when_over(self, listener: Callable[[], object]) -> None:
        """Have a function called when all runs have ended. Views call it.

        Parameters
        ----------
        listener : callable
            Called without arguments, in the comparison's thread.
        """
        self._listeners.append(listener)

    # What came out

    @property
    def over(self) -> bool:
        """Whether all runs have ended."""
        return self._over

    @property
    def paused(self) -> bool:
        """Whether it was asked to pause."""
        return self._paused

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopped

    @property
    def total(self) -> int:
        """The number of all runs."""
        return len(self._contenders) * len(self._starts)

    @property
    def budget(self) -> Budget:
        """What each run may spend, and the price of a product."""
        return self._budget

    @property
    def priced(self) -> bool:
        """Whether any method uses products, so that closure calls are not all that is spent."""
        return any(each.products for each in self._contenders)

    @property
    def axis(self) -> str:
        """What the curves are drawn over: what the budget counts."""
        if self._budget.seconds:
            return "seconds"
        return priced(self._budget.price) if self.priced else "closure calls"

    @property
    def ranking(self) -> Ranking:
        """The ranks of the runs that have ended."""
        return Ranking(list(self._finished), self.names, self._budget, self._accuracy)

    @property
    def rows(self) -> list[Compared]:
        """The runs that have ended, best first."""
        return self.ranking.rows

    @property
    def best(self) -> Compared | None:
        """The recommended method's run from the model's own start."""
        return self.ranking.best

    @property
    def sure(self) -> bool:
        """Whether the recommendation is sure: see the class."""
        return self.over and not self._stopped and not self.ranking.doubts

    @property
    def recommendation(self) -> str:
        """Which method to take, why, and how sure it is."""
        ranking = self.ranking
        return f"{ranking.words()} {self._certainty(ranking)}"

    @property
    def code(self) -> str:
        """Code that runs the recommended method with its panel."""
        best = self.best
        if best is None:
            return ""
        contender = next(each for each in self._contenders if each.name == best.name)
        steps = best.history[-1].index if len(best.history) else 1
        return contender.code(self._label, max(1, steps))

    @property
    def histories(self) -> dict[str, History]:
        """The histories by name, also of the run that goes on: those of the first start."""
        now = {each.name: each.history for each in list(self._finished) if each.start == 0}
        current = self._current
        if current is not None and current[0] not in now:
            now[current[0]] = current[1].history
        return {name: now[name] for name in self.names if name in now}

    def table(self) -> str:
        """The runs as a text table, best first."""
        cells = self.ranking.cells()
        return text_table(cells, align="<" + ">" * (len(cells[0]) - 2) + "<")

    def write_html(self, path: str | Path) -> str:
        """Write one self-contained page: the recommendation, the table, the curves, the code.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        str
            The page.
        """
        title = f"{len(self.names)} methods compared"
        figure = histories_page(self.histories, x=self.axis, panels=("loss", "gradient norm"))
        page = html_page(title, html("<h1>{title}</h1>{body}", title=title, body=self._html(figure)))
        write_text(path, page)
        return page

    def __repr__(self) -> str:
        if not self._finished:
            return f"<Comparison of {', '.join(self.names)}: no run has ended>"
        return "\n\n".join(filter(None, [self.table(), self.recommendation, self.code]))

    def _repr_html_(self) -> str:
        return self._html("")

    # The runs

    def _work(self) -> None:
        try:
            for start, place in enumerate(self._starts):
                for contender in self._contenders:
                    if self._stopped:
                        return
                    self._state.put_back()
                    place()
                    self._run(contender, start)
        except BaseException as error:
            self._error = error
        finally:
            self._state.put_back()
            self._state.release()
            self._over = True
            for listener in self._listeners:
                listener()
            self._ended.set()

    def _run(self, contender: Contender, start: int) -> None:
        run, error, begun = None, "", time.perf_counter()
        try:
            run = self._begin(contender)
            if run is None:
                return
            run.wait()
        except BusyError:
            raise
        except Exception as raised:
            error = f"{type(raised).__name__}: {text_of(raised)}"
        history = History(contender.name) if run is None else run.history
        with self._lock:
            self._finished.append(Finished(contender.name, start, history, error, time.perf_counter() - begun))
            self._current = None

    def _begin(self, contender: Contender) -> Run | None:
        """The run, under way; None after a stop, which finds either no run or this one."""
        with self._lock:
            if self._stopped:
                return None
            task = Task(self._state.parameters, self._closure, self._budget.limits, [self._budget.over])
            run = contender.start(task, paused=self._paused)
            self._current = contender.name, run
            return run

    def _certainty(self, ranking: Ranking) -> str:
        if ranking.best is None or not math.isfinite(ranking.best.loss):
            return ""
        doubts = "the comparison was stopped" if self._stopped else ranking.doubts if self.over else "it goes on"
        starts = len(self._starts)
        return (
            f"Not sure: {doubts}."
            if doubts
            else f"Sure: the best, or within {CLOSE:g} of it, from each of {starts} starts."
        )

    # Display

    def _html(self, figure: str) -> Html:
        cells = self.ranking.cells()
        table = html_table(cells, ["left", *["right"] * (len(cells[0]) - 2), "left"])
        return html(
            "<p><b>{words}</b></p><div class='wide'>{table}</div>{figure}{code}",
            words=self.recommendation if self._finished else "No run has ended.",
            table=table,
            figure=Html(figure),
            code=html("<pre><code>{code}</code></pre>", code=self.code) if self.code else "",
        )


class _ModelState:
    """Parameters, gradients and buffers as they were; reserved until `release`. Raises BusyError."""

    def __init__(self, parameters: Sequence[torch.Tensor], modules: Sequence[torch.nn.Module]):
        self.parameters = list(parameters)
        self._flat = FlatParameters(self.parameters)
        self._x = self._flat.read()
        self._gradients = [None if each.grad is None else each.grad.clone() for each in parameters]
        self._buffers = [(buffer, buffer.detach().clone()) for module in modules for buffer in module.buffers()]
        self._ids = {id(each) for each in parameters}
        with _claims_lock:
            if self._ids & _claims:
                raise BusyError("another comparison moves these parameters; wait for it, or stop it")
            _claims.update(self._ids)

    def put_back(self) -> None:
        """Restore all of it."""
        self._flat.write_final(self._x)
        for parameter, gradient in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        for buffer, value in self._buffers:
            buffer.data.copy_(value)

    def release(self) -> None:
        """Another comparison may move the parameters."""
        with _claims_lock:
            _claims.difference_update(self._ids)


def compare(
    model: torch.nn.Module | Sequence[torch.Tensor],
    closure: Callable[[], Any],
    methods: Sequence[str | tuple[str, Mapping[str, Any]]] = ("L-BFGS-B", "trust-ncg", "torch.LBFGS", "Adam"),
    *,
    budget: float | None = None,
    seconds: float | None = None,
    starts: int | Sequence[Callable[[], object]] = 1,
    product_cost: float | None = None,
    accuracy: float = 1e-5,
    seed: int = 0,
    background: bool = False,
) -> Comparison:
    """Compare methods on your own model: each begins where the model is, and has the same budget.

    In a notebook the curves are drawn while the methods run, one after another, in one panel. Afterwards the model is
    as it was: parameters, gradients and buffers. An error of a method is a row of the table.

    Parameters
    ----------
    model : torch.nn.Module or sequence of torch.Tensor
        The model, or its parameters. Those with ``requires_grad=False`` are left out.
    closure : callable
        Computes the loss, as for `MinimizeWrapper`. It needs the same data each time.
    methods : sequence of str or (str, dict), optional
        Names of METHODS, and optimizers of torch as "Adam" or "torch.LBFGS". Settings follow in a dict:
        ``("BFGS", dict(engine="torch"))``, ``("Adam", dict(lr=0.01))``, ``("trust-ncg", dict(gtol=1e-8))``.
    budget : float or None, optional
        What each run may spend: closure calls, and Hessian-vector products at their price. Default 500.
    seconds : float or None, optional
        Seconds for each run, in place of `budget`.
    starts : int or sequence of callables, optional
        Number of starts, which shows whether the ranks depend on it. The first is where the model is; for others each
        tensor is moved at random by a tenth of its size. Or functions that put the model to its other starts, such as
        ``model.reset_parameters``. Default 1.
    product_cost : float or None, optional
        The price of a product in closure calls. Default: measured.
    accuracy : float, optional
        Losses that differ by less than this share of the whole decrease count as equal; what counts then is what was
        spent. Default 1e-5.
    seed : int, optional
        Seed of the random starts. Default 0.
    background : bool, optional
        True: return at once, and compare in a thread. The panel then has buttons, as the cell does not block. Default
        False.

    Returns
    -------
    Comparison
        The ranked table, the recommendation, and the code of the best. `stop` and `pause` steer it from another
        thread, or with ``background=True``.

    Raises
    ------
    ArgumentError
        If a number is not positive, no parameter is trainable, or settings of a method are wrong.
    ArgumentTypeError
        If the closure is not callable.
    UnknownMethodError
        If there is no such method.
    BusyError
        If another run or comparison moves the same parameters.
    ClosureError
        If the closure cannot be evaluated.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> closure = lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> comparison = compare([x], closure, ["Adam", "BFGS", "L-BFGS-B"], budget=100)
    >>> comparison.best.name, comparison.sure, x.tolist()
    ('BFGS', False, [-1.2, 1.0])
    >>> print(comparison.code)
    from torchmin_nb import MinimizeWrapper
    from torchmin_nb.views import Dashboard
    <BLANKLINE>
    optimizer = MinimizeWrapper(parameters, "BFGS", callbacks=[Dashboard()])
    optimizer.step(closure)
    """
    if not callable(closure):
        raise ArgumentTypeError(f"the closure must be a function without arguments, got {type(closure).__name__}")
    if budget is not None and seconds is not None:
        raise ArgumentError("budget and seconds exclude each other; pass one of them")
    module = isinstance(model, torch.nn.Module)
    listed = list(model.parameters()) if isinstance(model, torch.nn.Module) else list(model)
    parameters = trainable([{"params": listed}])
    chosen = contenders(methods)
    price = positive("product_cost", product_cost)
    amount = (
        positive("budget", _BUDGET if budget is None else budget) if seconds is None else positive("seconds", seconds)
    )
    if price is None and seconds is None and any(each.products for each in chosen):
        price = _measured_price(closure, parameters)
    comparison = Comparison(
        parameters,
        [model] if isinstance(model, torch.nn.Module) else [],
        closure,
        chosen,
        Budget(float(amount), seconds is not None, price or 1.0),
        _read_starts(starts, parameters, seed),
        accuracy=float(positive("accuracy", accuracy)),
        label="model.parameters()" if module else "parameters",
    )
    show_comparison(comparison)
    try:
        comparison.start()
        return comparison if background else comparison.wait()
    except KeyboardInterrupt:  # before the wait began, which has the same answer to it
        comparison.stop()
        return comparison.wait()


def _read_starts(starts: Any, parameters: Sequence[torch.Tensor], seed: int) -> list[Callable[[], None]]:
    if isinstance(starts, Integral):
        number = count("starts", starts)
        return [_stay, *(_moved(parameters, seed + index) for index in range(1, number))]
    functions = list(starts)
    if not all(map(callable, functions)):
        raise ArgumentTypeError("starts must be a number, or functions that put the model to a start")
    return [_stay, *functions]


def _stay() -> None:
    """The model is where it was."""


def _moved(parameters: Sequence[torch.Tensor], seed: int) -> Callable[[], None]:
    def move() -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in parameters:
                size = float(parameter.square().mean().sqrt()) or 1.0
                noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                parameter.add_(noise.to(parameter.device), alpha=_SHIFT * size)

    return move


def _measured_price(closure: Callable[[], Any], parameters: Sequence[torch.Tensor]) -> float:
    """Of a product, in closure calls."""
    report = check_closure(closure, FlatParameters(list(parameters)), directions=1)
    if report.seconds_per_product is None or not report.seconds_per_call:
        return 2.0
    return round(min(max(report.seconds_per_product / report.seconds_per_call, 1.0), 20.0), 1)
