"""Which front end is there."""

import sys
from types import SimpleNamespace

import pytest

from torchmin_nb.errors import ArgumentError
from torchmin_nb.views import frontend
from torchmin_nb.views.frontend import HEADLESS, NOTEBOOK, STATIC, TERMINAL, cell, front_end


@pytest.fixture(autouse=True)
def _untold(monkeypatch):
    monkeypatch.delenv("TORCHMIN_NB_FRONT_END", raising=False)


def shell(request):
    """An IPython shell in a kernel that has been sent this request."""
    return SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda channel: request if channel == "shell" else None))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"content": {"allow_stdin": True, "code": "1"}}, NOTEBOOK),
        ({"content": {"allow_stdin": False}}, HEADLESS),
        ({"content": {}}, HEADLESS),
        ({}, HEADLESS),
    ],
)
def test_a_kernel_is_watched_if_its_front_end_can_be_asked(monkeypatch, request_, expected):
    monkeypatch.setattr(frontend, "shell", lambda: shell(request_))
    assert front_end() == expected


def test_ipython_without_a_kernel_is_a_terminal(monkeypatch):
    monkeypatch.setattr(frontend, "shell", lambda: SimpleNamespace())
    assert front_end() == TERMINAL


def test_python_without_ipython_is_a_terminal(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert front_end() == TERMINAL
    assert "IPython" not in sys.modules


def test_ipython_that_is_only_imported_is_a_terminal():
    import IPython

    assert IPython.get_ipython() is None
    assert front_end() == TERMINAL


def test_colab_is_static(monkeypatch):
    monkeypatch.setattr(frontend, "shell", lambda: shell({"content": {"allow_stdin": True}}))
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    assert front_end() == STATIC


@pytest.mark.parametrize("missing", ["anywidget", "ipywidgets"])
def test_a_watched_kernel_without_widgets_is_static(monkeypatch, missing):
    monkeypatch.setattr(frontend, "shell", lambda: shell({"content": {"allow_stdin": True}}))
    monkeypatch.setattr(frontend, "find_spec", lambda name: None if name == missing else name)
    assert front_end() == STATIC


@pytest.mark.parametrize("told", [NOTEBOOK, STATIC, HEADLESS, TERMINAL])
def test_the_environment_overrules_what_is_found(monkeypatch, told):
    monkeypatch.setattr(frontend, "shell", lambda: shell({"content": {"allow_stdin": told == TERMINAL}}))
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", told)
    assert front_end() == told


@pytest.mark.parametrize("told", ["browser", "", "NOTEBOOK"])
def test_an_unknown_front_end_is_refused_with_those_that_are_known(monkeypatch, told):
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", told)
    with pytest.raises(ArgumentError, match="'notebook', 'static', 'headless', 'terminal'"):
        front_end()


def test_a_cell_has_a_number_where_there_are_cells(monkeypatch):
    assert cell() is None
    monkeypatch.setattr(frontend, "shell", lambda: SimpleNamespace(execution_count=12))
    assert cell() == 12
