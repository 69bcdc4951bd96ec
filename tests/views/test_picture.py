"""The picture for places where no browser draws."""

import struct

import pytest

from tests.views.histories import a_history
from torchmin_nb import History
from torchmin_nb.views.figures import convergence_data
from torchmin_nb.views.picture import png

MAGIC = b"\x89PNG\r\n\x1a\n"
SUBJECTS = {
    "trust region": a_history(),
    "none": a_history("CG", radius=False),
    "no gradient": a_history("Powell", radius=False, gradient=False),
    "negative loss": a_history(offset=-0.7),
    "long": a_history(length=5000),
    "one point": a_history(length=1),
    "empty": History("CG"),
    "no run": {},
    "twelve runs": {f"run {k}": a_history(length=10 + k) for k in range(12)},
}


@pytest.mark.parametrize("histories", SUBJECTS.values(), ids=SUBJECTS)
def test_any_history_becomes_a_picture_of_640_by_480(histories):
    data = png(convergence_data(histories), title="a title")
    assert data.startswith(MAGIC)
    assert struct.unpack(">II", data[16:24]) == (640, 480)
    assert len(data) < 100_000


@pytest.mark.parametrize("title", ["", "two\nlines", "cost in $ and $^{", "100 % · x² ≤ 1"])
def test_any_title_will_do(title):
    assert png(convergence_data(a_history()), "seconds", title).startswith(MAGIC)
