"""The order of convergence, of sequences whose order is known and of runs."""

import numpy as np
import pytest
import torch

from tests.analysis.runs import a_run
from torchmin_nb import History, Iteration
from torchmin_nb.analysis import order_data, order_of_convergence
from torchmin_nb.errors import ArgumentError, HistoryError


def _errors(*errors, dtype="float64", accepted=None):
    """A run whose distance to the minimizer (0, 0), and whose loss, is each of these."""
    history = History("made", keep_parameters=True, dtype=dtype)
    for index, error in enumerate(errors):
        history.append(
            Iteration(index, error, accepted=None if accepted is None else accepted[index]), np.array([error, 0.0])
        )
    return history


@pytest.mark.parametrize("answer", [{"minimizer": (0, 0), "floor": 0}, {"best_loss": 0.0, "floor": 0}])
@pytest.mark.parametrize(
    ("order", "errors"),
    [
        (1.0, [0.5**k for k in range(30)]),
        (2.0, [0.5 ** (2**k) for k in range(8)]),
        (1.618, [0.5 ** (1.618**k) for k in range(10)]),
        (3.0, [0.7 ** (3**k) for k in range(6)]),
    ],
)
def test_known_orders(order, errors, answer):
    found = order_of_convergence(_errors(*errors), **answer)
    assert found.order == pytest.approx(order, rel=1e-9)
    assert ("linear" in found.words) == (order == 1)
    if order == 1:
        assert found.rate == pytest.approx(0.5)


def test_rounding_is_left_out_and_named():
    errors = [0.5**k for k in range(45)] + [3e-14, 2.5e-14, 1e-14, 2e-14]
    found = order_of_convergence(_errors(*errors), minimizer=(0, 0))
    assert found.order == pytest.approx(1.0)
    assert found.after[found.fitted].min() >= found.floor == pytest.approx(1.49e-8, rel=1e-2)
    assert "rounding" in found.words


def test_the_floor_follows_the_dtype():
    floors = [
        order_of_convergence(_errors(1, 0.1, dtype=dtype), minimizer=(0, 0)).floor for dtype in ("float32", "float64")
    ]
    np.testing.assert_allclose(floors, [3.45e-4, 1.49e-8], rtol=1e-2)
    assert order_of_convergence(_errors(3.0, 2.0), best_loss=-50.0).floor == pytest.approx(100 * 2.2e-16 * 50, rel=0.01)


@pytest.mark.parametrize(
    "errors",
    [[], [1.0], [1.0, 0.1], [1.0, 0.1, 0.01], [1, 2, 4, 8], [0.0, 0.0], [1, np.nan, 0.1], [1e-9, 1e-10, 1e-11, 1e-12]],
    ids=["none", "one", "two", "three", "growing", "zero", "NaN", "rounding"],
)
def test_too_few_steps_tell_no_order(errors):
    found = order_of_convergence(_errors(*errors), minimizer=(0, 0))
    assert found.order is found.rate is found.intercept is None
    assert "too few to determine an order" in found.words


def test_only_the_last_fall_counts():
    slow = [10 * 0.9**k for k in range(10)]
    fast = [5 * 1e-2 ** (1.5**k) for k in range(5)]
    found = order_of_convergence(_errors(*slow, 8.0, *fast), minimizer=(0, 0), floor=0)
    assert found.order == pytest.approx(1.5, rel=0.05)


def test_rejected_steps_are_left_out():
    errors = [0.5 ** (2**k) for k in range(6)]
    doubled = [error for error in errors for _ in range(2)]
    accepted = [bool(k % 2 == 0) for k in range(len(doubled))]
    found = order_of_convergence(_errors(*doubled, accepted=accepted), minimizer=(0, 0), floor=0)
    assert found.order == pytest.approx(2.0, rel=1e-9)


def test_newtons_method_is_quadratic_and_cg_is_linear():
    def bumpy(x):
        return (x**2).sum() + torch.exp(x).sum()

    answer = np.full(2, -0.3517337112491958)  # 2x + exp(x) = 0
    by_x = order_data({"trust-exact": a_run("trust-exact", bumpy, (3.0, 2.0), tol=1e-12)}, minimizer=answer)[0]
    assert by_x.order == pytest.approx(2.0, abs=0.35)
    assert np.linalg.norm(by_x.after[-1]) < 1e-6
    valley = lambda x: x[0] ** 2 + 1e4 * x[1] ** 2 + x[0] ** 4  # noqa: E731
    slow = order_of_convergence(a_run("Nelder-Mead", valley, (1.0, 1.0)), best_loss=0.0)
    assert slow.order is None or slow.order < 1.4


@pytest.mark.parametrize("answers", [{}, {"minimizer": (0, 0), "best_loss": 0.0}])
def test_one_known_answer_is_needed(answers):
    with pytest.raises(ArgumentError, match="pass the known answer once"):
        order_of_convergence(_errors(1, 0.1), **answers)


def test_answers_that_do_not_fit():
    with pytest.raises(ArgumentError, match="minimizer has 3 entries; the run has 2"):
        order_of_convergence(_errors(1, 0.1), minimizer=(0, 0, 0))
    with pytest.raises(HistoryError, match="keep_parameters=True"):
        order_of_convergence(a_run("BFGS", keep_parameters=False), minimizer=(1, 1))
