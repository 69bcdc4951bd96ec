"""Histories as text and HTML tables."""

from html.parser import HTMLParser

import numpy as np
import pytest

from tests.views.histories import a_history
from torchmin_nb import History, Iteration
from torchmin_nb.core.display.tables import sparkline, text_table
from torchmin_nb.core.history.comparison import comparison_rows, comparison_text

# Text tables


def test_columns_are_aligned_words_left_and_numbers_right():
    table = text_table([("method", "loss"), ("CG", "1.5"), ("trust-krylov", "10.25")])
    assert table.splitlines() == [
        "method         loss",
        "────────────  ─────",
        "CG              1.5",
        "trust-krylov  10.25",
    ]


def test_the_alignment_can_be_chosen():
    assert text_table([("a", "b"), ("xxx", "yyy")], align="><").splitlines()[0] == "  a  b"


def test_a_header_alone_is_a_table():
    assert text_table([("a", "bc")]).splitlines() == ["a  bc", "─  ──"]


# Comparisons


def test_a_comparison_has_a_row_a_run():
    head, first, second = comparison_rows({"one": a_history(length=3), "two": a_history("Powell", 3, gradient=False)})
    assert head == ("method", "loss", "gradient norm", "iterations", "closure calls", "HVPs", "seconds")
    assert first == ("one", "0.250000", "1.0e+00", "2", "6", "9", "1.50")
    assert second[:3] == ("two", "0.250000", "–")


def test_a_run_that_goes_on_shows_its_last_iteration():
    _, row = comparison_rows({"one": a_history(length=3, ended=False)})
    assert row == ("one", "0.250000", "1.0e+00", "2", "5", "6", "1.00")


def test_a_comparison_takes_columns_of_ones_own():
    histories = {"one": a_history(), "two": a_history("CG")}
    rows = comparison_rows(histories, [("accuracy", lambda history: history.method.upper())])
    assert [row[-1] for row in rows] == ["accuracy", "TRUST-NCG", "CG"]
    assert "TRUST-NCG" in comparison_text(histories, [("accuracy", lambda history: history.method.upper())])


def test_a_comparison_of_nothing_is_a_header():
    assert comparison_text({}).startswith("method  loss")


# Sparklines


def test_a_sparkline_is_logarithmic_where_all_is_positive():
    assert sparkline(np.logspace(0, -7, 8)) == "█▇▆▅▄▃▂▁"
    assert sparkline(np.arange(8.0) - 1) == "▁▂▃▄▅▆▇█"


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf, np.nan]])
def test_nothing_finite_has_no_sparkline(values):
    assert sparkline(np.array(values, dtype=float)) == ""


def test_a_constant_is_a_flat_sparkline_and_gaps_are_skipped():
    assert sparkline(np.full(3, 2.0)) == "▁▁▁"
    assert sparkline(np.array([1.0, np.nan, 100.0])) == "▁█"


def test_a_long_sparkline_has_its_width_and_keeps_the_ends():
    line = sparkline(np.logspace(0, -9, 5000), width=30)
    assert len(line) == 30
    assert line[0] == "█"
    assert line[-1] == "▁"


# HTML


class Cells(HTMLParser):
    """The texts of the table's header and of its rows; unclosed tags are an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.head, self.rows = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "br":
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] == "th":
            self.head.append(data)
        if self.open[-1] == "td":
            self.rows[-1].append(data)


def test_the_table_shows_what_the_method_reports():
    cells = Cells(a_history("Powell", 4, radius=False, gradient=False)._repr_html_())
    assert cells.head == ["iteration", "loss", "step norm", "closure calls", "HVPs", "seconds"]
    assert cells.rows[1:] == [
        [str(k), f"{2.0**-k:.4g}", "0.5" if k else "–", str(2 * k + 1), str(3 * k), f"{k / 2:.4g}"] for k in range(4)
    ]


def test_the_ends_of_a_long_run_are_shown():
    cells = Cells(a_history(length=1000)._repr_html_())
    assert [row[0] for row in cells.rows[1:]] == ["0", "1", "2", "3", "4", "…", "995", "996", "997", "998", "999"]
    assert cells.rows[1][cells.head.index("reduction ratio")] == "–"


def test_an_empty_history_has_words_only():
    assert History("CG")._repr_html_() == "<div><b>CG: no iteration yet</b></div>"


def test_names_and_messages_are_escaped():
    history = History("<script>alert(1)</script>")
    history.append(Iteration(0, 1.0))
    assert "<script" not in history._repr_html_()
    assert "&lt;script&gt;" in history._repr_html_()


def test_a_run_that_never_began_has_a_row():
    head, row = comparison_rows({"BFGS": History("BFGS")})
    assert row == ("BFGS", "–", "–", "0", "0", "0", "0.00")
    assert len(head) == len(row)
