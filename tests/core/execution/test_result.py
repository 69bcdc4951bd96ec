"""The result as a table: SciPy's OptimizeResult in all respects, readable in a notebook."""

import copy
import io
import pickle
from html.parser import HTMLParser

import numpy as np
import pytest
import scipy.optimize
import torch
from scipy.optimize import OptimizeResult

from torchmin_nb import BasinHoppingWrapper, LeastSquaresWrapper, MinimizeWrapper, minimize, observe
from torchmin_nb.core.execution.result import Result, result_html, result_rows
from torchmin_nb.core.history.history import History

START = [-1.2, 1.0]


def parameter():
    return torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def by(method, **keywords):
    x = parameter()
    optimizer = MinimizeWrapper([x], method, **keywords)
    optimizer.step(lambda: rosenbrock(x))
    return optimizer


def least_squares():
    x = parameter()
    optimizer = LeastSquaresWrapper([x])
    optimizer.step(lambda: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
    return optimizer.result, optimizer.history


def basin_hopping():
    x = parameter()
    optimizer = BasinHoppingWrapper([x], "L-BFGS-B", {"niter": 2, "rng": 1})
    optimizer.step(lambda: rosenbrock(x))
    return optimizer.result, optimizer.history


def observed():
    x = parameter()
    run = observe(torch.optim.Adam([x], lr=0.01), lambda: rosenbrock(x), 5)
    return run.wait(20), run.history


def local(method, **keywords):
    optimizer = by(method, **keywords)
    return optimizer.result, optimizer.history


RUNS = {
    "ended by SciPy": lambda: local("trust-ncg"),
    "gradient-free": lambda: local("Nelder-Mead"),
    "stopped": lambda: local("BFGS", max_evaluations=6),
    "least squares": least_squares,
    "global": basin_hopping,
    "torch": observed,
}


class Table(HTMLParser):
    """Header and data cell of each row, the tags that were opened and not closed, and all attributes."""

    def __init__(self, html):
        super().__init__()
        self.rows, self.open, self.attributes, self.pre = [], [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] == "pre":
            self.pre += data


@pytest.mark.parametrize("name", RUNS)
def test_the_table_says_what_the_run_did(name):
    result, history = RUNS[name]()
    assert isinstance(result, OptimizeResult)
    table = Table(result._repr_html_())
    assert (table.open, {len(row) for row in table.rows}) == ([], {2})
    shown = dict(table.rows)
    totals = history.totals
    assert shown["method"] == history.method
    assert shown["success"] == {True: "yes", False: "no"}[result.success]
    assert shown["message"] == result.message
    assert float(shown["loss"]) == pytest.approx(result.fun, rel=1e-7)
    assert shown["iterations"] == str(result.nit)
    counts = ("closure calls", "gradients", "Hessians", "Hessian-vector products")
    made = [totals.nfev, totals.njev, totals.nhev, totals.nhvp]
    assert [int(shown[each].replace(",", "")) for each in counts] == made
    assert float(shown["seconds"]) == pytest.approx(totals.seconds, rel=0.01)
    assert shown["shape of x"] == "(2,)"
    spark = shown["loss, log scale" if (history.loss > 0).all() else "loss, from start to end"]
    assert (set(spark) <= set("▁▂▃▄▅▆▇█"), spark[0], len(spark)) == (True, "█", min(40, len(history)))
    assert table.pre == repr(result)


def test_it_is_scipys_result():
    result, _ = RUNS["ended by SciPy"]()
    plain = OptimizeResult(result)
    assert repr(result) == repr(plain)
    assert str(result) == str(plain)
    assert dir(result) == dir(plain)
    assert set(result) == set(plain)
    assert "run_summary" not in result
    assert (result["fun"], result.get("nothing", 3)) == (result.fun, 3)
    result.mine = 4
    assert result["mine"] == 4
    with pytest.raises(AttributeError, match="nothing"):
        _ = result.nothing


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, *(lambda r, p=p: pickle.loads(pickle.dumps(r, p)) for p in range(2, 6))],
)
def test_copies_and_pickles_show_the_same(again):
    result, _ = RUNS["ended by SciPy"]()
    other = again(result)
    assert type(other) is Result
    assert other is not result
    assert set(other) == set(result)
    assert np.array_equal(other.x, result.x)
    assert other.run_summary == result.run_summary == result.story
    assert other._repr_html_() == result._repr_html_()


def test_a_pickle_holds_no_history():
    few, many = (len(pickle.dumps(by("Nelder-Mead", max_evaluations=n).result)) for n in (50, 150))
    assert abs(many - few) < 1000


def test_through_a_state_dict():
    optimizer = by("L-BFGS-B")
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = MinimizeWrapper([parameter()], "L-BFGS-B")
    again.load_state_dict(torch.load(file))
    assert type(again.result) is Result
    assert dict(result_rows(again.result)) == dict(result_rows(optimizer.result))


def test_of_minimize_x_has_its_own_form():
    assert dict(result_rows(minimize(lambda x: (x**2).sum(), torch.ones(3, 4))))["shape of x"] == "(3, 4)"
    named = minimize(lambda p: (p["a"] ** 2).sum() + p["b"] ** 2, {"a": torch.ones(3), "b": torch.tensor(1.0)})
    assert isinstance(named, Result)
    assert dict(result_rows(named))["shape of x"] == "a (3,), b ()"
    assert isinstance(named.history, History)


def test_what_is_not_known_is_not_shown():
    assert result_rows(Result()) == []
    scipys = scipy.optimize.rosen, START
    rows = dict(result_rows(Result(scipy.optimize.minimize(*scipys, method="Nelder-Mead"))))
    assert set(rows) == {"success", "message", "loss", "iterations", "closure calls", "shape of x"}
    empty = Result.of_run({"success": False, "fun": float("nan")}, History("CG"))
    assert dict(result_rows(empty)) == {"method": "CG", "success": "no", "loss": "nan"}


def test_losses_below_zero_are_on_a_linear_scale():
    result = minimize(lambda x: (x**2).sum() - 5, torch.ones(2))
    assert dict(result_rows(result))["loss, from start to end"][:: len(result.history) - 1] == "█▁"


@pytest.mark.filterwarnings("ignore:.*reports success at the start:torchmin_nb.errors.StartWarning")
def test_html_is_escaped():
    def method(fun, x0, **_):
        return OptimizeResult(x=x0, fun=fun(x0), success=True, message="<script>alert('&')</script>")

    method.__name__ = "<b>own</b>"
    html = by(dict(method=method)).result._repr_html_()
    table = Table(html)
    assert "<script" not in html
    assert "<b>" not in html
    assert dict(table.rows)["message"] == "<script>alert('&')</script>"
    assert dict(table.rows)["method"] == "<b>own</b>"


@pytest.mark.parametrize("theme", ["color", "background", "rgb", "#"])
def test_the_colours_are_those_of_the_page(theme):
    result, _ = RUNS["torch"]()
    styles = [value for name, value in Table(result_html(result)).attributes if name in ("style", "class")]
    assert styles
    assert not [style for style in styles if theme in style]
    assert "<style" not in result_html(result)
