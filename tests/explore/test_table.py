"""Runs as rows: the operations leave the table they are called on as it was."""

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from torchmin_nb import History
from torchmin_nb.errors import ArgumentError
from torchmin_nb.explore import COLUMNS, Call, RunTable, report_html, run


@pytest.fixture(scope="module")
def table():
    calls = [
        Call("Rosenbrock", "trust-exact", options={"gtol": 1e-8}),
        Call("Rosenbrock", "Nelder-Mead"),
        Call("Rosenbrock", "CG", max_evaluations=5, tol=1e-9),
        Call("Rosenbrock", "trf"),
    ]
    found = RunTable()
    for call in calls:
        found = found.add(run(call))
    return found


def names(table):
    return [row.name for row in table.shown]


def test_a_row_tells_its_run(table):
    row = table["trust-exact"]
    last, totals = row.history[-1], row.history.totals
    assert (row.loss, row.grad_norm, row.iterations) == (row.history.final_loss, last.grad_norm, last.index)
    assert (row.closure_calls, row.products, row.seconds) == (totals.nfev, totals.nhvp, totals.seconds)
    assert row.changed == "gtol = 1e-08"
    assert row.x.tolist() == pytest.approx([1, 1], abs=1e-6)
    assert row.solved
    assert table["CG"].changed == "tol = 1e-09"
    assert table["CG"].solved is False
    assert table["CG"].reason == "The budget of closure calls (max_evaluations) is spent."
    assert table["Nelder-Mead"].grad_norm is None


def test_the_table_tells_the_engine_that_was_asked_for():
    row = run(Call("Rosenbrock", "TNC", engine="torch"))
    assert row.reason.startswith("ArgumentError: engine='torch' cannot run TNC")
    assert (row.method, row.label, COLUMNS["method"].value(row)) == ("TNC", "TNC (torch)", "TNC (torch)")
    assert RunTable().add(row).names == ("TNC (torch)",)


def test_a_failure_is_a_row_with_its_reason(table):
    row = table["trf"]
    assert row.failed
    assert row.solved is False
    assert row.loss is None
    assert row.reason.startswith("ArgumentError: trf needs residuals")


def test_an_infeasible_end_is_not_solved():
    """Below the constrained minimum, and outside: the loss alone would say that it is solved."""
    row = run(Call("Rosenbrock in a disc", "BFGS", constraints=False))
    assert row.loss < 1e-6
    assert row.solved is False
    assert run(Call("Rosenbrock in a disc", "SLSQP")).solved


def test_operations_are_pure(table):
    before = table.rows
    changed = table.pin("CG").hide("trf").rename("Nelder-Mead", " simplex ").delete("trust-exact")
    assert names(changed) == ["CG", "simplex"]
    assert table.rows == before
    assert names(changed.hide("trf", False).pin("CG", False)) == ["simplex", "CG", "trf"]
    assert list(changed.histories) == names(changed)
    assert len(changed) == 3


def test_names_are_unique(table):
    twice = table.add(table["CG"]).add(table["CG"])
    assert twice.names[-2:] == ("CG 2", "CG 3")
    for new in ("", "  ", "CG"):
        with pytest.raises(ArgumentError, match="choose another"):
            table.rename("trf", new)
    assert table.rename("CG", "CG").names == table.names


@pytest.mark.parametrize("operation", ["delete", "pin", "hide"])
def test_an_unknown_row_is_an_error_that_names_the_known(table, operation):
    with pytest.raises(ArgumentError, match="there is no run 'SGD'; there are trust-exact, Nelder-Mead, CG, trf"):
        getattr(table, operation)("SGD")
    with pytest.raises(ArgumentError):
        table.rename("SGD", "x")


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("descending", [False, True])
def test_every_column_sorts_and_leaves_the_unknown_last(table, column, descending):
    values = [COLUMNS[column].value(row) for row in table.sorted_by(column, descending=descending).shown]
    known = [value.casefold() if isinstance(value, str) else value for value in values if value is not None]
    assert known == sorted(known, reverse=descending)
    assert None not in values[: len(known)]


def test_pinned_rows_come_first_and_a_click_turns_the_order(table):
    once = table.pin("trf").toggled("loss")
    assert names(once) == ["trf", "trust-exact", "Nelder-Mead", "CG"]
    assert names(once.toggled("loss")) == ["trf", "CG", "Nelder-Mead", "trust-exact"]
    assert names(once.sorted_by("")) == ["trf", "trust-exact", "Nelder-Mead", "CG"]
    with pytest.raises(ArgumentError, match="column 'colour' is not known"):
        table.sorted_by("colour")


def test_csv_holds_the_numbers_unrounded(table):
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [row["name"] for row in rows] == names(table)
    assert float(rows[0]["loss"]) == table["trust-exact"].loss
    assert rows[1]["gradient norm"] == rows[3]["loss"] == ""


def test_histories_are_written_one_below_the_other(table):
    rows = list(csv.DictReader(io.StringIO(table.to_csv() and table.histories_to_csv())))
    of_cg = [row for row in rows if row["run"] == "CG"]
    assert [float(row["loss"]) for row in of_cg] == table["CG"].history.loss.tolist()
    assert len(rows) == sum(len(history) for history in table.histories.values())


def test_json_is_strict_and_gives_the_histories_back(table):
    stored = json.loads(table.to_json(), parse_constant=pytest.fail)
    assert [run["name"] for run in stored["runs"]] == names(table)
    assert stored["runs"][0]["options"] == {"gtol": 1e-8}
    for told in stored["runs"]:
        assert History.from_json(json.dumps(told["history"])) == table[told["name"]].history


class Cells(HTMLParser):
    """Tags with their attributes, and the text of cells; fails on what is not closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_html_is_one_accessible_table(table):
    page = Cells(table.sorted_by("loss", descending=True).pin("CG").to_html("My runs"))
    assert len(page.all("table")) == len(page.all("caption")) == 1
    heads = [attributes for attributes in page.all("th") if attributes["scope"] == "col"]
    assert [head["aria-sort"] for head in heads] == ["descending" if name == "loss" else "none" for name in COLUMNS]
    assert sum(attributes["scope"] == "row" for attributes in page.all("th")) == 4
    classes = [attributes.get("class", "") for attributes in page.all("tr")][1:]
    assert classes == ["pinned", "", "solved", "failed"] or set(classes) == {"pinned", "solved", "failed"}
    assert "My runs" in page.text
    assert "background" not in table.to_html()


def test_names_and_reasons_are_escaped(table):
    bad = "<script>alert('x')</script> & \"co\""
    odd = replace(table["CG"], name=bad, reason=bad)
    for text in (RunTable((odd,)).to_html(bad), report_html(RunTable((odd,)), title=bad, notes=bad)):
        assert "<script" not in text
        assert bad in Cells(text).text


def test_an_empty_table_is_written_too():
    assert RunTable().to_csv().splitlines() == [",".join(column.heading for column in COLUMNS.values())]
    assert json.loads(RunTable().to_json())["runs"] == []
    Cells(RunTable().to_html())


def test_the_report_is_a_page_with_table_figure_and_code(table, tmp_path):
    path = tmp_path / "runs.html"
    text = report_html(table, title="Rosenbrock", figure="<div id='figure'></div>", notes="One.\n\nTwo.", path=path)
    assert path.read_text(encoding="utf-8") == text
    page = Cells(text.replace("<!DOCTYPE html>", ""))
    assert page.all("html")[0]["lang"] == "en"
    assert {"id": "figure"} in page.all("div")
    assert len(page.all("p")) == 2
    assert len(page.all("pre")) == 4
    assert any("optimizer = MinimizeWrapper(" in data for data in page.text)
    assert any("This run has no script: trf needs residuals" in data for data in page.text)
    assert "http" not in text.split("</style>")[1].split("<h2>")[0]
