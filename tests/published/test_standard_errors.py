"""NIST's certified standard deviations to six digits: all 27 sets in `make proof`, elsewhere two of them.

The residuals of Lanczos1 are the rounding of its generated data, 1e-13: float64 cannot compute their variance. There
the errors are compared in units of the residual deviation.
"""

import numpy as np
import pytest
import torch

from tests.proof import PROOF
from tests.published.nist_strd import STRD
from torchmin_nb import LeastSquaresWrapper, curve_fit

pytestmark = pytest.mark.slow

TIGHT = dict(ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=20_000)
ROUNDING = ("Lanczos1",)
NAMES = list(STRD) if PROOF else ["Misra1a", "Lanczos1"]


@pytest.mark.filterwarnings("ignore::torchmin_nb.errors.ConvergenceWarning")  # tolerances at the limit of float64
@pytest.mark.parametrize("name", NAMES)
def test_standard_deviations(name):
    row = STRD[name]
    b = torch.nn.Parameter(row.starts[1].clone())
    optimizer = LeastSquaresWrapper([("b", b)], dict(method="lm", **TIGHT), engine="torch")
    optimizer.step(lambda: row.residuals(b))
    of_identity = optimizer.covariance(lambda: row.residuals(b)).of(lambda b: b)
    fit = curve_fit(lambda x, *b: row.model(b, x), row.x, row.y, row.starts[1].numpy(), options=TIGHT)
    for errors, squares in (
        (of_identity.standard_error.numpy(), 2 * optimizer.result.cost),
        (fit.standard_errors, fit.chi_square),
    ):
        unit = np.sqrt(squares / row.squares) if name in ROUNDING else 1.0
        np.testing.assert_allclose(errors / unit, row.deviations.numpy(), rtol=1e-6)
