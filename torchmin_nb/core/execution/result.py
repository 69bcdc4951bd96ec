"""The result of a run: SciPy's OptimizeResult, shown as a table in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult

from ..display.html import Html, html, joined
from ..display.tables import sparkline
from ..runtime.control import Status

if TYPE_CHECKING:
    from ..history.history import History
    from ..history.records import Totals

__all__ = ["Result", "RunSummary", "result_html", "result_rows"]

_SAMPLED = 40


class RunSummary(NamedTuple):
    """The facts about a run that a result shows: method, computed work, some of the losses in order."""

    method: str
    totals: Totals | None
    losses: tuple[float, ...]


class Result(OptimizeResult):  # type: ignore[misc]  # SciPy is untyped
    """SciPy's OptimizeResult in all respects. As the last line of a cell it is a table.

    Attributes
    ----------
    x : ndarray of shape (n,)
        The end point, float64. From `minimize` it has the form of ``x0``.
    fun : float
        The loss at x.
    jac : ndarray of shape (n,)
        The gradient at x, fixed variables included. A least-squares result has the Jacobian, shape (m, n).
    success : bool
        Whether the method reports success, or the target was reached.
    status : int
        Why the run ended: a `Status` if torchmin_nb ended it, else SciPy's number. 0 stands for success only.
    message : str
        Why the run ended, in words.
    nit : int
        Number of iterations, as SciPy counts them.
    nfev : int
        Number of closure calls.
    history : History
        The iterations; in results of `minimize`.
    run_summary : RunSummary or None
        Method, totals and some losses, for the table. It is no key of the result. Copies and pickles have it.

    Notes
    -----
    A method may add fields: ``hess_inv``, ``kkt_residual``, ``multipliers``, ``noise``, ``minima`` and others. They are
    described with the wrappers.

    Examples
    --------
    >>> result = minimize(lambda x: ((x - 3) ** 2).sum(), [0.0, 0.0], "BFGS")
    >>> result.success, result.x.round(decimals=6), result.status
    (True, tensor([3., 3.], dtype=torch.float64), 0)
    """

    run_summary: RunSummary | None = None

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Restore from a pickle. Earlier versions called the summary `story`."""
        self.__dict__.update({"run_summary" if name == "story" else name: value for name, value in state.items()})

    @property
    def story(self) -> RunSummary | None:
        """The earlier name of `run_summary`."""
        return self.run_summary

    @classmethod
    def of_run(cls, fields: Mapping[str, Any], history: History) -> Result:
        """The fields of a result, with a summary of its history. Runs call it.

        Parameters
        ----------
        fields : dict
            Names and values of the result.
        history : History
            The iterations of the run.

        Returns
        -------
        Result
            The result, with a `run_summary`.
        """
        result = cls(fields)
        last = len(history) - 1
        picked = range(last + 1)
        if last >= _SAMPLED:
            picked = np.linspace(0, last, _SAMPLED).astype(int).tolist()
        summary = RunSummary(history.method, history.totals, tuple(history[index].loss for index in picked))
        object.__setattr__(result, "run_summary", summary)  # SciPy's __setattr__ would make it a key
        return result

    @property
    def scipy_x(self) -> Any:
        """The point where SciPy ended. It differs from `x` only if a run without success had seen a better point."""
        return self.get("scipy_x", self.get("x"))

    @scipy_x.setter
    def scipy_x(self, x: Any) -> None:
        self["scipy_x"] = x

    @property
    def scipy_status(self) -> int | None:
        """SciPy's number for how it ended: `status`, unless a Status stands in its place.

        None if SciPy did not end the run.
        """
        status: int | None = self.get("status")
        number: int | None = self.get("scipy_status")
        return status if number is None and not isinstance(status, Status) else number

    @scipy_status.setter
    def scipy_status(self, status: int) -> None:
        self["scipy_status"] = status

    def _repr_html_(self) -> str:
        return result_html(self)


def result_rows(result: Result) -> list[tuple[str, str]]:
    """Name and text of each known value."""
    summary = result.run_summary or RunSummary("", None, ())
    totals = summary.totals
    counts = {
        "closure calls": (totals and totals.nfev, "nfev"),
        "gradients": (totals and totals.njev, "njev"),
        "Hessians": (totals and totals.nhev, "nhev"),
        "Hessian-vector products": (totals and totals.nhvp, ""),
    }
    rows = [
        ("method", summary.method),
        ("success", "" if result.get("success") is None else "yes" if result["success"] else "no"),
        ("message", str(result.get("message", ""))),
        ("loss", _number(result.get("fun"))),
        ("loss, log scale" if min(summary.losses, default=0.0) > 0 else "loss, from start to end", _spark(summary)),
        ("iterations", _text(result.get("nit"))),
        *((name, _text(result.get(field) if made is None else made)) for name, (made, field) in counts.items()),
        ("seconds", "" if totals is None else f"{totals.seconds:.3g}"),
        ("shape of x", _shape(result.get("x"))),
    ]
    return [(name, text) for name, text in rows if text]


def result_html(result: Result) -> Html:
    """The rows as a table, in the colours of the page; below it SciPy's text, collapsed."""
    form = '<tr><th style="text-align:left">{name}</th><td style="text-align:left">{text}</td></tr>'
    rows = joined(html(form, name=name, text=text) for name, text in result_rows(result))
    fields = html("<details><summary>all fields</summary><pre>{text}</pre></details>", text=repr(result))
    return html("<div><table><tbody>{rows}</tbody></table>{fields}</div>", rows=rows, fields=fields)


def _spark(summary: RunSummary) -> str:
    return sparkline(np.array(summary.losses, dtype=float), _SAMPLED)


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{float(value):.8g}" if np.ndim(value) == 0 else f"array of shape {np.shape(value)}"


def _text(value: Any) -> str:
    return "" if value is None else f"{value:,}"


def _shape(x: Any) -> str:
    """The shape of an array or a tensor; for a dict, of each tensor by name."""
    if isinstance(x, Mapping):
        return ", ".join(f"{name} {_shape(value)}" for name, value in x.items())
    return "" if x is None else str(tuple(np.shape(x)))
