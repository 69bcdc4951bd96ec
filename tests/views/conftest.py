"""Fixtures that several tests of the views share."""

import pytest

from tests.views.shown import Cell
from torchmin_nb.views import session


@pytest.fixture
def cell(monkeypatch):
    """The cells of a live notebook; nothing ticks but the test."""
    cell = Cell()
    monkeypatch.setenv("TORCHMIN_NB_FRONT_END", "notebook")
    monkeypatch.setattr("IPython.display.display", cell.display)
    monkeypatch.setattr(session, "Ticker", cell.ticker)
    return cell
