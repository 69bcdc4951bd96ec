"""The table of a RunStore in a notebook: what it shows, and what its buttons ask. The script is tested in a browser."""

import re
from html.parser import HTMLParser

import pytest

from torchmin_nb import RunStore, minimize
from torchmin_nb.views.store import table
from torchmin_nb.views.store.table import StoreTable


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path / "runs")
    for method in ("BFGS", "CG", "BFGS"):
        minimize(lambda x: (x**4).sum(), [3.0, -2.0], method, callbacks=[store])
    return store


@pytest.fixture
def shown(store):
    made = StoreTable(store)
    made.answers = []
    made.widget.send = made.answers.append
    yield made
    made.close()


class Read(HTMLParser):
    """The rows of the table, as the script finds them: by run, the values by which it sorts."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.heads, self.buttons = {}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "tr" and "data-run" in attrs:
            self.rows[attrs["data-run"]] = []
        if "data-value" in attrs:
            list(self.rows.values())[-1].append(attrs["data-value"])
        if "data-sort" in attrs:
            self.heads.append(attrs["data-sort"])
        if "data-do" in attrs:
            self.buttons.append(attrs["data-do"])


def names(shown):
    return list(Read(shown.widget.html).rows)


def test_the_table_has_the_runs_and_what_they_are_sorted_by(shown, store):
    read = Read(shown.widget.html)
    assert list(read.rows) == store.names == ["BFGS", "CG", "BFGS 2"]
    for run in store:
        values = dict(zip(read.heads, read.rows[run.name], strict=True))
        assert float(values["loss"]) == run.loss
        assert int(values["evaluations"]) == run.evaluations
        assert (values["name"], values["method"], values["ending"]) == (run.name, run.method, run.message)
    assert set(read.buttons) == set(shown._actions)
    assert "3 runs in runs<" in shown.widget.html


def test_what_is_not_known_is_sorted_last_and_names_are_text(tmp_path):
    store = RunStore(tmp_path / "runs", name='<b>"&')
    minimize(lambda x: (x**4).sum(), [3.0], "BFGS", callbacks=[store])
    (run,) = store
    lines = run.path.read_text().splitlines()
    run.path.write_text("\n".join(lines[:2]) + "\n")  # as of a run that was killed
    shown = StoreTable(store)
    assert Read(shown.widget.html).rows["BFGS"][4:8] == [""] * 4
    run.path.write_text("\n".join(lines) + "\n")
    shown.act({"do": "refresh"})
    assert names(shown) == ['<b>"&']
    assert "<b>" not in shown.widget.html
    shown.close()


def test_a_run_gets_another_name(shown, store):
    shown.act({"do": "rename", "names": ["CG"], "new": " mine "})
    assert names(shown) == store.names == ["BFGS", "mine", "BFGS 2"]
    assert shown.answers == [{"done": "rename", "ticked": ["mine"]}]
    shown.act({"do": "rename", "names": ["mine"], "new": "BFGS"})
    assert store.names == ["BFGS", "mine", "BFGS 2"]
    assert "'BFGS' is taken" in shown.widget.said
    assert shown.answers[-1]["ticked"] is None
    shown.act({"do": "rename", "names": ["mine"], "new": "its"})
    assert shown.widget.said == ""


def test_runs_are_deleted(shown, store):
    shown.act({"do": "delete", "names": ["BFGS", "CG"]})
    assert names(shown) == store.names == ["BFGS"]
    assert (shown.widget.said, shown.answers[-1]["ticked"]) == ("2 runs deleted.", [])
    for path in store.path.glob("*.jsonl"):
        path.unlink()
    shown.act({"do": "delete", "names": ["BFGS"]})
    assert "there is no run 'BFGS'" in shown.widget.said


def test_ticked_runs_are_drawn_over_each_other(shown, store):
    shown.act({"do": "compare", "names": ["CG", "BFGS 2"]})
    first = shown.panel
    assert shown.widget.figure == first.model_id
    state = first.whole()
    assert [entry["group"] for entry in state["legend"]] == ["CG", "BFGS 2"]
    lowest = min(("CG", "BFGS 2"), key=lambda name: store[name].history[-1].loss)
    assert state["header"]["verdict"] == f"The lowest loss is that of {lowest}."
    assert first.x == "closure calls"
    shown.act({"do": "compare", "names": ["BFGS"]})
    assert shown.panel is not first
    assert first.comm is None  # the earlier figure is freed
    assert shown.panel.whole()["header"]["verdict"] == ""


def test_a_page_is_written_and_none_overwritten(shown, store, tmp_path):
    shown.act({"do": "page", "names": ["CG"]})
    page = (tmp_path / "runs.html").read_text()
    assert "<h1>1 run</h1>" in page
    assert shown.widget.said == "runs.html, beside the folder, has 1 run."
    shown.act({"do": "page", "names": ["CG", "BFGS"]})
    assert (tmp_path / "runs.html").read_text() == page
    assert "<h1>2 runs</h1>" in (tmp_path / "runs-2.html").read_text()


def test_what_was_run_meanwhile_is_read_again(shown, store):
    minimize(lambda x: (x**4).sum(), [3.0, -2.0], "Powell", callbacks=[store])
    assert "Powell" not in names(shown)
    shown.act({"do": "refresh"})
    assert names(shown)[-1] == "Powell"


# In a cell


def test_the_cell_shows_the_plain_table_which_the_script_finds(cell, store):
    store._ipython_display_()
    (data,) = cell.shown
    (key,) = re.findall(r'<div data-tmnb-store="(\w+)">', data["text/html"])
    assert store._repr_html_() in data["text/html"]
    assert data["text/plain"] == repr(store)
    assert "application/vnd.jupyter.widget-view+json" not in data
    assert re.fullmatch(r"\w{12}", key)


def test_the_table_of_a_cell_that_runs_again_is_freed(cell, store, monkeypatch):
    monkeypatch.setattr(table, "place_here", lambda: ("a cell", 0))
    made = []
    monkeypatch.setattr(table, "StoreTable", lambda store: made.append(StoreTable(store)) or made[-1])
    store._ipython_display_()
    store._ipython_display_()
    assert [each.widget.comm is None for each in made] == [True, False]
    made[-1].close()


@pytest.mark.parametrize("where", ["static", "headless", "terminal"])
def test_elsewhere_ipython_takes_the_plain_table(store, monkeypatch, where):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", where)
    with pytest.raises(NotImplementedError):
        store._ipython_display_()
    assert "<table" in store._repr_html_()
