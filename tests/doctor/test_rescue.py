"""The rescue tries the remedies in front of the user, and lets the best one go on."""

import math
import warnings

import numpy as np
import pytest
import torch

from tests.doctor.planted import FAILURES, diagnosed, parameter, rosenbrock
from torchmin_nb import LEAST_SQUARES_METHODS, Constraint, LeastSquaresWrapper, MinimizeWrapper, observe
from torchmin_nb.errors import ArgumentError, RescueError, StartWarning
from torchmin_nb.problems.networks import forward
from torchmin_nb.problems.pinn import laplacian


def poisson_network(hidden=16, points=40, seed=1, *, leaf=False):
    """Parameters, closure and relative error of a network u with −u'' = π² sin πx, in the parameters' dtype.

    leaf: the points stay float32, need a gradient, and are cast in each call.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = [((1, hidden), 2.0), ((hidden,), 2.0), ((hidden, 1), 0.3), ((1,), 0.1)]
    parameters = [torch.nn.Parameter(size * torch.randn(shape, generator=generator)) for shape, size in shapes]
    fine = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]
    data = torch.linspace(0, 1, points + 2)[1:-1, None].requires_grad_()

    def closure():
        dtype = parameters[0].dtype
        inside = data.to(dtype) if leaf else torch.linspace(0, 1, points + 2, dtype=dtype)[1:-1, None]
        ends = inside.new_tensor([[0.0], [1.0]])
        equation = laplacian(parameters, inside) + torch.pi**2 * torch.sin(torch.pi * inside)
        return equation.square().mean() + 10 * forward(parameters, ends).square().sum()

    def error():
        with torch.no_grad():
            found = forward([each.double() for each in parameters], fine)
        exact = torch.sin(torch.pi * fine)
        return float((found - exact).norm() / exact.norm())

    return parameters, closure, error


@pytest.mark.parametrize("leaf", [False, True], ids=["points are made anew", "float32 points are a leaf"])
def test_a_stalled_float32_network_is_rescued(leaf):
    """The error of a PINN at which torch's LBFGS stalls in float32 becomes a hundred times smaller."""
    parameters, closure, error = poisson_network(leaf=leaf)
    torch_lbfgs = torch.optim.LBFGS(parameters, max_iter=20, history_size=50, line_search_fn="strong_wolfe")
    run = observe(torch_lbfgs, closure, steps=20)
    run.wait()
    stalled = error()
    report = run.diagnose()
    assert report.rule == "float32 floor", repr(report)
    rescued = report.rescue()
    rescued.wait()
    assert parameters[0].dtype is torch.float64
    assert error() < stalled / 100
    assert rescued.origin is run
    assert any(trial.helped for trial in report.trials)


def test_what_did_not_help_is_said_and_undone():
    x = parameter(-1.2, 1.0)
    report = diagnosed([x], lambda: rosenbrock(x), dict(method="BFGS", options=dict(maxiter=5)))
    best = report.rescue().wait()
    assert best.fun < 1e-8
    assert report.trials[0].remedy is report.remedies[0]
    assert "helped" in repr(report)
    assert "tried" in report._repr_html_()


def test_a_remedy_that_cannot_help_leaves_the_parameters():
    x = parameter(3.0, -2.0)
    frozen = {"loss": None}

    def closure():  # it stands still once it has been examined
        loss = rosenbrock(x)
        return loss if frozen["loss"] is None else 0 * loss + frozen["loss"]

    report = diagnosed([x], closure, dict(method="BFGS", options=dict(maxiter=3)))
    frozen["loss"] = 1.0
    before = x.detach().clone()
    with pytest.raises(RescueError, match="no remedy lowered"):
        report.rescue()
    assert torch.equal(x, before)


def test_nothing_to_try():
    x = parameter(1.0, 1.0)
    report = diagnosed([x], lambda: ((x - 3) ** 2).sum(), "BFGS")
    with pytest.raises(ArgumentError, match="nothing is to be changed"):
        report.rescue()
    with pytest.raises(ArgumentError, match="share"):
        report.rescue(share=0)


def test_a_saddle_is_left():
    x = parameter(1.0, 0.0)
    report = diagnosed([x], lambda: x[0] ** 2 + (x[1] ** 2 - 1) ** 2, "BFGS")
    result = report.rescue().wait()
    assert result.fun < 1e-8
    assert abs(abs(x[1].item()) - 1) < 1e-4


def test_a_better_scale_is_used():
    x, d = parameter(1.0, 1.0, 1.0, 1.0), torch.tensor([1.0, 1e4, 1e8, 1e10], dtype=torch.float64)
    report = diagnosed([x], lambda: (d * (x - 2) ** 2).sum(), dict(method="CG", options=dict(maxiter=30)))
    assert report.remedy.change.sizes is not None
    assert report.rescue().wait().fun < 1e-6


def test_a_tiny_loss_is_scaled():
    x = parameter(-1.2, 1.0)
    report = diagnosed([x], lambda: 1e-9 * rosenbrock(x), "BFGS")
    assert report.rescue().wait().fun < 1e-17


def test_the_run_goes_on_with_the_callbacks_of_the_first():
    x, seen = parameter(-1.2, 1.0), []
    optimizer = MinimizeWrapper([x], dict(method="BFGS", options=dict(maxiter=5)), callbacks=[seen.append])
    optimizer.step(lambda: rosenbrock(x))
    count = len(seen)
    run = optimizer.diagnose(lambda: rosenbrock(x)).rescue()
    run.wait()
    assert len(seen) - count == len(run.history)
    assert np.all(np.diff([each.loss for each in seen[count:]]) <= 0)


@pytest.mark.parametrize("name", ["a_network_of_zeros", "a_loose_gtol", "nist_mgh09_from_far", "flowers_in_metres"])
def test_products_count_in_a_trial(name):
    report = FAILURES[name][1]()
    report.rescue().wait()
    allowed = max(20, math.ceil(0.05 * report._subject.spent))
    for trial in report.trials:
        assert trial.history.totals.nfev + trial.history.totals.nhvp <= allowed, trial.row()


@pytest.mark.parametrize(
    "name",
    [
        "a_diagonal_of_many_sizes",
        "a_tiny_loss",
        "loose_least_squares",
        "flowers_in_metres",
        "a_variable_frozen_at_its_bound",
        "a_saddle_at_the_start",
        "five_iterations",
        "a_slow_curve_fit",
        "a_wrong_hessp",
        "nist_mgh09_from_far",
    ],
)
def test_what_was_rescued_is_healthy(name):
    """It has gained little since the trial, but much since the first run's start."""
    run = FAILURES[name][1]().rescue()
    run.wait()
    assert run.diagnose().healthy, run.diagnose()


def test_a_lower_loss_at_the_price_of_constraints_is_no_help():
    x = parameter(0.5, 0.5)
    constraints = [Constraint(lambda: x.sum(), lower=3)]
    request = dict(method="SLSQP", bounds=[(0, 1), (0, 1)], constraints=constraints)
    report = diagnosed([x], lambda: (x**2).sum(), request)
    assert report.rule == "infeasible"
    with pytest.raises(ArgumentError, match="no remedy to try"):
        report.rescue()
    x = parameter(2.0, 1.0, 0.0)
    same = [Constraint(lambda: x[0] + x[1], lower=1, upper=1), Constraint(lambda: 3 * (x[0] + x[1]), lower=3, upper=3)]
    report = diagnosed([x], lambda: ((x - 3) ** 4).sum(), dict(method="SLSQP", constraints=same))
    report.rescue().wait()
    assert float((x[0] + x[1] - 1).detach().abs()) < 1e-5
    assert any(not trial.helped for trial in report.trials)


def test_a_run_that_goes_on_does_not_warn_that_it_is_done():
    """Warnings of its thread reach nobody who could act on them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in ("a_tiny_loss", "two_corrections", "a_variable_frozen_at_its_bound"):
            FAILURES[name][1]().rescue().wait()
    assert [str(each.message) for each in caught if issubclass(each.category, StartWarning)] == []


def test_remedies_for_residuals_are_methods_for_residuals():
    x, t = parameter(1.0, 0.5, 1.0, 2.5), torch.linspace(0, 3, 30, dtype=torch.float64)
    y = 2 * torch.exp(-0.4 * t) + 1.5 * torch.exp(-1.1 * t)
    residuals = lambda: x[0] * torch.exp(-x[1] * t) + x[2] * torch.exp(-x[3] * t) - y  # noqa: E731
    report = diagnosed([x], residuals, dict(method="trf", max_nfev=3), LeastSquaresWrapper)
    assert len([remedy for remedy in report.remedies if remedy.change is not None]) >= 2
    for remedy in report.remedies:
        assert remedy.change is None or (remedy.change.method or "trf") in LEAST_SQUARES_METHODS
    assert report.rescue().wait().cost < 1e-8
