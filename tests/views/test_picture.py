"""The picture for places where no browser draws."""

import struct

import pytest
from matplotlib.figure import Figure

from tests.views.histories import a_history
from torchmin_nb import History, Iteration
from torchmin_nb.views.panels import PANELS, chosen_panels, convergence_data
from torchmin_nb.views.picture import png

MAGIC = b"\x89PNG\r\n\x1a\n"


def odd_values():
    history = History("COBYLA")
    for index, loss in enumerate([1e300, float("nan"), float("inf"), 0.0, 1e-300, -1.0]):
        history.append(Iteration(index, loss, constraint_violation=0.0))
    return history


SUBJECTS = {
    "trust region": a_history(),
    "none": a_history("CG", radius=False),
    "no gradient": a_history("Powell", radius=False, gradient=False),
    "negative loss": a_history(offset=-0.7),
    "odd values": odd_values(),
    "metrics": a_history(metrics=["bias", "slope"]),
    "long": a_history(length=5000),
    "one point": a_history(length=1),
    "empty": History("CG"),
    "no run": {},
    "twelve runs": {f"run {k}": a_history(length=10 + k, metrics=["q"] * (k % 2)) for k in range(12)},
    "names like formulas": {"cost in $ and $^{": a_history(), "$\\x$": History("$^{$")},
}


def drawn(histories, panels="auto", **choices):
    chosen = chosen_panels(histories, panels)
    return png(convergence_data(histories, panels=chosen), chosen, **choices)


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn."""
    made, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **how: (made.append(figure), save(figure, *args, **how))
    )
    return made


@pytest.mark.parametrize("histories", SUBJECTS.values(), ids=SUBJECTS)
def test_any_history_becomes_a_picture_640_pixels_wide(histories):
    data = drawn(histories, title="a title")
    assert data.startswith(MAGIC)
    width, height = struct.unpack(">II", data[16:24])
    assert width == 640
    assert height >= 480
    assert len(data) < 100_000


@pytest.mark.parametrize("histories", [SUBJECTS["metrics"], SUBJECTS["empty"], SUBJECTS["twelve runs"]])
def test_every_panel_can_be_drawn(histories, figures):
    drawn(histories, list(PANELS), x="seconds")
    (figure,) = figures
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    wanted = [row.title for name, row in PANELS.items() if name != "metrics"]
    assert all(title.startswith(name) for title, name in zip(titles, wanted, strict=False))
    assert figure.axes[-1].get_xlabel() == "seconds"


def test_it_draws_the_numbers_on_the_scale_of_the_figure(figures):
    history = a_history(length=9)
    drawn(history)
    drawn(history, scale="linear")
    for figure, scale in zip(figures, ["log", "linear"], strict=True):
        assert list(figure.axes[0].lines[0].get_ydata()) == list(history.loss)
        assert [axis.get_yscale() for axis in figure.axes[:3]] == [scale] * 3
    radius, ratio = figures[0].axes[2:]
    assert list(radius.lines[1].get_xdata()) == [3, 7]  # the rejected steps
    assert [text.get_text() for text in ratio.get_yticklabels()] == ["0", "¼", "¾", "1"]


@pytest.mark.parametrize(("x", "whole"), [("iteration", True), ("closure calls", True), ("seconds", False)])
def test_what_is_counted_has_whole_numbers_on_its_axis(figures, x, whole):
    drawn(a_history(length=3), x=x)
    ticks = figures[0].axes[-1].get_xticks()
    assert len(ticks) > 2
    assert all(tick == round(tick) for tick in ticks) == whole


def test_what_is_missing_is_said(figures):
    drawn(a_history("CG", radius=False), "trust radius")
    (axis,) = figures[0].axes
    assert axis.texts[0].get_text().startswith("no trust region in CG:\n")


@pytest.mark.parametrize("title", ["", "two\nlines", "cost in $ and $^{", "100 % · x² ≤ 1"])
def test_any_title_will_do(title):
    assert drawn(a_history(), x="seconds", title=title).startswith(MAGIC)
