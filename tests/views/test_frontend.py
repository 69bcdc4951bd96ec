"""Which front end is there."""

import sys
from types import SimpleNamespace

import pytest

from torchmin_nb.views import frontend
from torchmin_nb.views.frontend import HEADLESS, NOTEBOOK, TERMINAL, front_end


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
    monkeypatch.setattr(frontend, "_shell", lambda: shell(request_))
    assert front_end() == expected


def test_ipython_without_a_kernel_is_a_terminal(monkeypatch):
    monkeypatch.setattr(frontend, "_shell", lambda: SimpleNamespace())
    assert front_end() == TERMINAL


def test_python_without_ipython_is_a_terminal(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert front_end() == TERMINAL
    assert "IPython" not in sys.modules


def test_ipython_that_is_only_imported_is_a_terminal():
    import IPython

    assert IPython.get_ipython() is None
    assert front_end() == TERMINAL
