"""Curves on one pair of axes: their data, looks and words."""

import numpy as np

from torchmin_nb.views import Axis, curves_picture

CURVES = {"few": ([0, 1, 2], [1, 2, 4]), "many": (np.arange(50), np.arange(50) ** 2)}


def test_data_and_looks():
    picture = curves_picture(CURVES, Axis("k"), Axis("k²", log=True), "Squares", alt="Two curves")
    few, many = picture.axes[0].lines
    assert few.get_xydata().tolist() == [[0, 1], [1, 2], [2, 4]]
    assert many.get_ydata().tolist() == [k**2 for k in range(50)]
    assert few.get_color() != many.get_color()
    assert few.get_linestyle() != many.get_linestyle()
    assert few.get_marker() not in ("", "None")
    assert many.get_marker() in ("", "None")
    assert picture.axes[0].get_yscale() == "log"
    assert repr(picture) == "Two curves"


def test_the_title_is_the_words_unless_there_are_others():
    assert repr(curves_picture(CURVES, Axis("k"), Axis("k²"), "Squares")) == "Squares"
