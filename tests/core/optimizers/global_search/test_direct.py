"""DirectWrapper."""

import pytest
import scipy.optimize

from tests.core.optimizers.global_search.searches import X0, Loss, numpy_rastrigin, rastrigin, run


def test_direct_divides_scipys_rectangles():
    plain = scipy.optimize.direct(numpy_rastrigin, [(-4, 5.5), (-5, 4)])
    made = run("direct", Loss(rastrigin, X0), dict(bounds=[(-4, 5.5), (-5, 4)]))
    assert made.result.x == pytest.approx(plain.x, abs=1e-12)
    assert (made.result.nit, made.result.nfev, made.result.status) == (plain.nit, plain.nfev, plain.status)
