"""curve_fit: SciPy's answers with derivatives from autograd, certified answers, the report, and what is refused."""

import numpy as np
import pytest
import scipy.optimize
import torch

from tests.published.nist_strd import STRD
from torchmin_nb import curve_fit
from torchmin_nb.errors import ArgumentError, ArgumentTypeError, ConvergenceWarning, CovarianceWarning

RANDOM = np.random.default_rng(0)
T = np.linspace(0, 4, 40)
SPREAD = 0.02 + 0.01 * T
Y = 2.5 * np.exp(-1.3 * T) + 0.5 + SPREAD * RANDOM.standard_normal(40)
NEIGHBOURS = 0.3 ** np.abs(np.subtract.outer(range(40), range(40))) * np.outer(SPREAD, SPREAD)
TIGHT = dict(ftol=1e-12, xtol=1e-12, gtol=1e-12)


def decay(t, a, rate, floor):
    library = torch if isinstance(t, torch.Tensor) else np
    return a * library.exp(-rate * t) + floor


CASES = {
    "plain": {},
    "sigma": dict(sigma=SPREAD),
    "one sigma": dict(sigma=0.03, absolute_sigma=True),
    "known sigma": dict(sigma=SPREAD, absolute_sigma=True),
    "covariance of the data": dict(sigma=NEIGHBOURS, absolute_sigma=True),
    "bounds": dict(bounds=([0, 0, 0], [5, 5, np.inf])),
    "one bound for all": dict(bounds=(0, 10)),
    "start": dict(p0=[2, 1, 1]),
}


@pytest.mark.parametrize("case", CASES)
def test_parameters_and_covariance_are_scipys(case):
    theirs = dict(CASES[case])
    theirs["sigma"] = np.full(40, theirs["sigma"]) if np.ndim(theirs.get("sigma")) == 0 and "sigma" in theirs else None
    theirs = {**CASES[case], **({} if theirs["sigma"] is None else {"sigma": theirs["sigma"]})}
    expected, covariance = scipy.optimize.curve_fit(decay, T, Y, **theirs, **TIGHT)
    popt, pcov = fit = curve_fit(decay, T, Y, **CASES[case], options=TIGHT)
    np.testing.assert_allclose(popt, expected, rtol=1e-7)
    np.testing.assert_allclose(pcov, covariance, rtol=1e-4, atol=1e-10)  # SciPy's Jacobian is of differences
    assert fit.names == ("a", "rate", "floor")
    np.testing.assert_allclose(fit(T), decay(T, *popt), rtol=1e-12)


@pytest.mark.parametrize("sets", ["Misra1a", "Nelson", "MGH09"])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("method", ["lm", "trf"])
def test_certified_values_and_standard_deviations(sets, side, method):
    row = STRD[sets]
    tight = dict(ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=20_000)
    start = row.starts[side].numpy()
    fit = curve_fit(lambda x, *b: row.model(torch.stack(b), x), row.x, row.y, start, method=method, options=tight)
    assert row.digits(torch.from_numpy(fit.popt)) >= 6
    np.testing.assert_allclose(fit.standard_errors, row.deviations, rtol=1e-6)
    assert fit.chi_square == pytest.approx(row.squares, rel=1e-8)
    assert fit.names[0] == "p0"


def plane(xy, a, b, c):
    x, y = xy
    return a * x + b * y + c


@pytest.mark.parametrize("form", ["tuple", "rows"])
def test_nan_are_left_out(form):
    x = RANDOM.standard_normal((2, 30))
    y = 2 * x[0] - x[1] + 0.5 + 0.1 * RANDOM.standard_normal(30)
    sigma = RANDOM.uniform(0.5, 2, 30)
    broken = x.copy(), y.copy(), sigma.copy()
    broken[0][1, 3] = broken[1][7] = broken[2][11] = np.nan
    known = np.delete(np.arange(30), [3, 7, 11])
    given = tuple(broken[0]) if form == "tuple" else broken[0]
    fit = curve_fit(plane, given, broken[1], sigma=broken[2], nan_policy="omit")
    expected = curve_fit(plane, x[:, known], y[known], sigma=sigma[known])
    np.testing.assert_array_equal(fit.popt, expected.popt)
    np.testing.assert_array_equal(fit.pcov, expected.pcov)
    assert len(fit.y) == fit.degrees_of_freedom + 3 == 27
    with pytest.raises(ArgumentError, match="3 of 30 data have NaN; nan_policy='omit'"):
        curve_fit(plane, given, broken[1], sigma=broken[2])


def test_data_along_the_first_axis():
    x = torch.from_numpy(RANDOM.standard_normal((30, 2)))
    y = x @ torch.tensor([2.0, -1.0], dtype=torch.float64)
    x[4, 1] = torch.nan
    fit = curve_fit(lambda x, a, b: x[:, 0] * a + x[:, 1] * b, x, y, nan_policy="omit")
    np.testing.assert_allclose(fit.popt, [2, -1], atol=1e-12)


def test_the_report():
    fit = curve_fit(decay, T, Y, sigma=SPREAD, absolute_sigma=True)
    text = repr(fit)
    for (name, value), error in zip(zip(fit.names, fit.popt, strict=True), fit.standard_errors, strict=True):
        line = next(line for line in text.splitlines() if line.startswith(name))
        shown, shown_error = line.removeprefix(name).split("±")
        assert float(shown) == pytest.approx(value, abs=error)
        assert float(shown_error) == pytest.approx(error, rel=0.06)
    assert fit.chi_square == pytest.approx(np.sum(((decay(T, *fit.popt) - Y) / SPREAD) ** 2))
    assert f"reduced χ²: {fit.chi_square / 37:.4g}" in text
    assert "ended: converged" in text
    assert f"{fit.chi_square:.6g}" in fit._repr_html_()
    assert fit.history[-1].loss == pytest.approx(fit.chi_square / 2)


def test_a_fit_that_is_cut_short_says_so():
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        fit = curve_fit(decay, T, Y, options=dict(max_nfev=2))
    assert "ended: not converged" in repr(fit)
    assert np.isfinite(fit.popt).all()


def test_what_the_data_do_not_determine_is_infinite():
    with pytest.warns(CovarianceWarning, match="trade off"):
        fit = curve_fit(lambda t, a, b, c: (a + b) * t + c, T, 3 * T + 1, [1.0, 1.0, 1.0])
    assert np.isinf(fit.standard_errors).tolist() == [True, True, False]
    with pytest.warns(CovarianceWarning, match="2 data for 2 parameters"):
        fit = curve_fit(lambda t, a, b: a * t + b, [0.0, 1.0], [1.0, 3.0])
    assert np.isinf(fit.pcov).all()
    assert "a = 2" in repr(fit)
    assert "b = 1" in fit._repr_html_()


def line(t, a, b):
    return a * t + b


REFUSED = {
    "no function": (lambda: curve_fit(3, T, Y), ArgumentTypeError, "function must be callable"),
    "no numbers": (lambda: curve_fit(line, T, ["a"] * 40), ArgumentTypeError, "y must be numbers"),
    "no parameter": (lambda: curve_fit(lambda t: t, T, Y), ArgumentError, "no parameter besides x"),
    "unknown count": (lambda: curve_fit(lambda t, *p: t, T, Y), ArgumentError, "pass p0"),
    "wrong start": (lambda: curve_fit(line, T, Y, [1, 2, 3]), ArgumentError, r"p0 has shape \(3,\)"),
    "wrong bounds": (lambda: curve_fit(line, T, Y, bounds=([0, 1, 2], 3)), ArgumentError, "each a number or 2 numbers"),
    "one bound": (lambda: curve_fit(line, T, Y, bounds=(0,)), ArgumentError, r"must be \(low, high\)"),
    "sigma of another shape": (lambda: curve_fit(line, T, Y, sigma=[1, 2]), ArgumentError, "sigma has shape"),
    "sigma of zero": (lambda: curve_fit(line, T, Y, sigma=0 * T), ArgumentError, "must be positive"),
    "no covariance": (lambda: curve_fit(line, T, Y, sigma=-np.eye(40)), ArgumentError, "positive definite"),
    "infinite": (lambda: curve_fit(line, T, np.where(T == 0, np.inf, Y)), ArgumentError, "y has infinite entries"),
    "nothing left": (
        lambda: curve_fit(line, T, T * np.nan, nan_policy="omit"),
        ArgumentError,
        "there are no data to fit",
    ),
    "nan of no axis": (
        lambda: curve_fit(line, [np.nan, 1.0], Y, nan_policy="omit"),
        ArgumentError,
        "no axis of its shape",
    ),
    "policy": (lambda: curve_fit(line, T, Y, nan_policy="drop"), ArgumentError, "nan_policy"),
    "keyword": (lambda: curve_fit(line, T, Y, ftol=1e-9), ArgumentTypeError, "no keyword 'ftol'"),
    "another shape": (lambda: curve_fit(lambda t, a: a, T, Y), ArgumentError, r"returned \(\) for data of shape"),
    "option": (lambda: curve_fit(line, T, Y, options=dict(tol=1)), ArgumentError, "tol"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    call, kind, text = REFUSED[case]
    with pytest.raises(kind, match=text):
        call()
