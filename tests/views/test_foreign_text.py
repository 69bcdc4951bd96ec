"""Text from outside — names, messages, errors — is shown as it is, and never read as tags, formulas or placeholders."""

import ast
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
import pytest
import torch

import torchmin_nb
from tests.views.histories import a_history
from tests.views.shown import LONG
from torchmin_nb import History, MinimizeWrapper
from torchmin_nb.core.covariance.covariance import Covariance
from torchmin_nb.core.display.html import Html
from torchmin_nb.core.display.html import html as made_html
from torchmin_nb.core.execution.result import Result
from torchmin_nb.explore import Call, RunTable, entry, method, of_function, report_html, run, traits, unregister
from torchmin_nb.explore.fit import Fit
from torchmin_nb.views import MethodExplorer, convergence_figure, landscape_figure
from torchmin_nb.views.animate import animation_figure
from torchmin_nb.views.chart import Axis, Chart, Contours, Mark, Region
from torchmin_nb.views.chart_figure import chart_figure
from torchmin_nb.views.chart_picture import chart_picture
from torchmin_nb.views.explorer import words
from torchmin_nb.views.explorer.compare_panel import table_html
from torchmin_nb.views.explorer.fields import TableView
from torchmin_nb.views.explorer.parts import line
from torchmin_nb.views.live_panel.header import Fact, Header
from torchmin_nb.views.picture import png
from torchmin_nb.views.plotly_text import plotly_text
from torchmin_nb.views.scene import Scene
from torchmin_nb.views.screens import epilogue

EVIL = "<img src=x onerror=\"alert('1')\">&amp; </script><b>$\\frac{$ %{x}"


class Tags(HTMLParser):
    """The tags and the text of a page; attributes count as text."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.attributes = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [value or "" for _, value in attrs]

    def handle_data(self, data):
        self.text.append(data)


def bowl(x):
    return ((x - 3) ** 2).sum()


def evil_history():
    history = a_history(EVIL, metrics=(EVIL,))
    history.message = EVIL
    return history


def evil_table():
    return RunTable().add(run(Call(of_function(bowl, [1.0, 2.0], name=EVIL), "BFGS"), name=EVIL))


PAGES = {
    "a history": lambda: evil_history()._repr_html_(),
    "a history without an iteration": lambda: History(EVIL)._repr_html_(),
    "a page of a history": lambda: evil_history().to_html(),
    "a result": lambda: Result.of_run(
        {"message": EVIL, "fun": 1.0, "x": {EVIL: np.ones(2)}}, evil_history()
    )._repr_html_(),
    "a covariance": lambda: Covariance(np.eye(1), {EVIL: torch.ones(1)}, np.array([False]))._repr_html_(),
    "a table of runs": lambda: evil_table().to_html(EVIL),
    "the panel's table": lambda: table_html(evil_table(), {EVIL: EVIL}),
    "a report": lambda: report_html(evil_table(), title=EVIL, notes=f"{EVIL}\n\n{EVIL}"),
    "an alert": lambda: words.alert(words.explained(ValueError(EVIL))),
    "a wrong option": lambda: words.default_words(entry("BFGS").options["gtol"], EVIL),
    "a problem of one's own": lambda: words.subject_card(of_function(bowl, [1.0], name=EVIL), known()),
    "a method that does not fit": lambda: words.method_card(entry("BFGS"), Fit(False, EVIL, (EVIL,)), known()),
    "the end of a run": lambda: epilogue(
        Scene({}, header=Header("finished", EVIL, (Fact(EVIL, EVIL),), None, EVIL, EVIL))
    ),
    "the end of a failed run": lambda: epilogue(Scene({}, header=Header("failed", EVIL, verdict=EVIL, tone="error"))),
}
"""Everything that makes HTML of what it is given."""


def known():
    return traits(of_function(bowl, [1.0]).make())


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_no_text_becomes_a_tag(page):
    read = Tags(page())
    assert not {"img", "script"} & set(read.tags)
    shown = " ".join("".join(read.text).split()) + " ".join(read.attributes)
    assert EVIL in shown or repr(EVIL)[1:-1] in shown


@pytest.mark.parametrize(
    "shown", [lambda text: line(text).value, lambda text: TableView(html=text).html], ids=["line", "table"]
)
def test_a_widget_takes_text_as_text_and_html_as_html(shown):
    assert shown(EVIL) == html.escape(EVIL)
    assert shown(Html("<b>a</b>")) == "<b>a</b>"
    assert shown(made_html("<b>{name}</b>", name=EVIL)) == f"<b>{html.escape(EVIL)}</b>"


def test_what_is_assigned_later_is_text_too():
    field = line("")
    field.value = EVIL
    assert "<img" not in field.value
    field.value = Html("<i>a</i>")
    assert field.value == "<i>a</i>"


def of_widgets(widget):
    """All HTML within."""
    if isinstance(widget, widgets.HTML):
        yield widget.value
    if isinstance(widget, TableView):
        yield widget.html
    for child in getattr(widget, "children", ()):
        yield from of_widgets(child)


def fails_later():
    calls = []

    def loss(x):
        calls.append(1)
        if len(calls) > 40:
            raise ValueError(EVIL)
        return bowl(x)

    return loss


@pytest.fixture
def evil_method():
    @method(EVIL)
    def downhill(fun, x0, grad, *, rate=0.1):
        for _ in range(5):
            x0 = x0 - rate * grad(x0)
            yield x0
        return EVIL

    yield EVIL
    unregister(EVIL)


@pytest.mark.parametrize("how", ["ends", "fails"])
def test_the_explorer_shows_text_from_outside_as_text(evil_method, how):
    explorer = MethodExplorer(bowl if how == "ends" else fails_later(), [1.0, 2.0], name=EVIL)
    try:
        explorer.method.value = evil_method if how == "ends" else "Nelder-Mead"
        explorer.run_button.click()
        assert explorer.wait(LONG)
        values = list(of_widgets(explorer.widget))
        assert any(EVIL.split("&")[0] in html.unescape(value) for value in values)
        assert not any("<img" in value for value in values)
        assert all(clean(text) for figure in explorer.figures for text in texts_of(figure.to_dict()))
    finally:
        explorer.close()


# Plotly


OURS = re.compile(r"<br>|<extra></extra>|</?b>|<span style=\"[^\"<>]*\">|</span>|%\{(?:x|y|customdata)(?::[^}]*)?\}")
TEXTS = {"text", "name", "title", "hovertemplate", "label", "ticktext"}


def texts_of(part, key=""):
    """Every string of a figure that Plotly reads as text."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name not in ("template", "args", "frames"):
                yield from texts_of(value, name)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from texts_of(value, key)
    elif isinstance(part, str) and key in TEXTS:
        yield part


def clean(text):
    rest = OURS.sub("", text)
    return "<" not in rest and "$" not in rest and "%{" not in rest


X = np.array([0.0, 1.0])
ODD = Chart(
    (
        Contours(X, X, np.eye(2), np.array([0.0, 1.0]), (EVIL, EVIL), EVIL, np.eye(2)),
        Region(X, X, np.eye(2) - 0.5, EVIL, "#7a7a7a"),
        Mark(X, X, EVIL, texts=(f"{EVIL}\nsecond", EVIL)),
    ),
    Axis(EVIL),
    Axis(EVIL),
    EVIL,
    (EVIL,),
)
FIGURES = {
    "one run": lambda: convergence_figure(evil_history(), title=EVIL),
    "two runs": lambda: convergence_figure({EVIL: evil_history(), "b": a_history()}, title=EVIL),
    "nothing reported": lambda: convergence_figure({EVIL: a_history(gradient=False)}, panels=["gradient norm"]),
    "a live view": lambda: Scene({EVIL: evil_history()}, EVIL).drawing().figure(),
    "an animation": lambda: animation_figure({EVIL: evil_history()}, title=EVIL),
    "a chart": lambda: chart_figure(ODD),
    "a landscape": lambda: landscape_figure(
        lambda x: (x**2).sum(-1), {EVIL: path_of_run()}, title=EVIL, window=((-1, 1), (-1, 1)), resolution=11
    ),
}


def path_of_run():
    x = torch.nn.Parameter(torch.tensor([0.5, 0.5], dtype=torch.float64))
    optimizer = MinimizeWrapper([x], "BFGS", keep_parameters=True)
    optimizer.step(lambda: (x**2).sum())
    return optimizer.history


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
def test_plotly_shows_text_from_outside_as_text(figure):
    drawn = figure()
    assert isinstance(drawn, go.Figure)
    texts = list(texts_of(drawn.to_dict()))
    assert not [text for text in texts if not clean(text)]
    assert any(EVIL[:20] in html.unescape(text) for text in texts)


@pytest.mark.parametrize("text", [EVIL, "a & b", "x < 1 > 0", "$5 and $6", "100 %{y}", "plain", "&lt;", "a\nb"])
def test_plotly_reads_back_the_same_text(text):
    assert clean(plotly_text(text))
    assert html.unescape(plotly_text(text).replace("<br>", "\n")) == text


def test_matplotlib_draws_formulas_as_text():
    """Mathematics that is none would raise when it is drawn."""
    figure = chart_picture(ODD)
    figure.canvas.draw()
    drawn = Scene({EVIL: evil_history(), "b": a_history()}, EVIL).drawing()
    assert png(drawn.runs, drawn.panels, drawn.x, EVIL).startswith(b"\x89PNG")


# The border


PACKAGE = Path(torchmin_nb.__file__).parent
TAG = re.compile(r"</?[a-z][a-z0-9]*[ >]")


def formatted_tags(path):
    """Where text is put between tags by an f-string."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            fixed = "".join(part.value for part in node.values if isinstance(part, ast.Constant))
            if TAG.search(fixed) and "<extra>" not in fixed:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}"


def test_no_f_string_puts_text_between_tags():
    places = [place for path in sorted(PACKAGE.rglob("*.py")) for place in formatted_tags(path)]
    assert not places, "use torchmin_nb.core.display.html"
