"""The KKT residual of the iterates: what it is, where it is known, and that it costs no closure call."""

import numpy as np
import pytest
import torch

from torchmin_nb import METHODS, Constraint, History, LeastSquaresWrapper, MinimizeWrapper

BOUNDED = [m.name for m in METHODS.values() if m.bounds and m.gradient != "none"]
CONSTRAINED = [m.name for m in METHODS.values() if m.constraints and m.gradient != "none"]
WITHOUT_GRADIENT = [m.name for m in METHODS.values() if m.bounds and m.gradient == "none"]


def parameter(*values):
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def gradient(x):
    return np.array([-2 * (1 - x[0]) - 400 * x[0] * (x[1] - x[0] ** 2), 200 * (x[1] - x[0] ** 2)])


def run(method, *, scale=None, engine=None, start=(-1.2, 1.0), closure=rosenbrock, **arguments):
    x = parameter(*start)
    group = {"params": [x], "scale": scale}
    optimizer = MinimizeWrapper(
        [group], dict(method=method, **arguments), keep_parameters=True, engine=engine, start_check=False
    )
    optimizer.step(lambda: closure(x))
    return optimizer


LOW, HIGH = np.array([-2.0, 0.0]), np.array([0.5, 2.0])


def projected(x, scale=1.0):
    """x/scale − P(x/scale − g), for the gradient with respect to x/scale."""
    z = x / scale
    return np.abs(z - np.clip(z - gradient(x) * scale, LOW / scale, HIGH / scale)).max()


@pytest.mark.parametrize("scale", [None, 4.0])
@pytest.mark.parametrize("method", BOUNDED)
def test_with_bounds_it_is_the_projected_gradient(method, scale):
    history = run(method, scale=scale, bounds=list(zip(LOW, HIGH, strict=True))).history
    known = np.isfinite(history.kkt_residual)
    assert known[0]
    assert known.mean() > 0.8
    expected = np.array([projected(x, scale or 1.0) for x in history.parameters])
    np.testing.assert_allclose(history.kkt_residual[known], expected[known], rtol=1e-7, atol=1e-12)
    assert history.grad_norm[known][-1] > 0.5  # at the bound the gradient is not small, and yet it is the solution
    assert history.kkt_residual[known][-1] < 1e-2


def test_a_solver_on_the_device_knows_it_after_the_start():
    history = run("L-BFGS-B", engine="torch", bounds=list(zip(LOW, HIGH, strict=True))).history
    assert history[0].kkt_residual is None
    expected = np.array([projected(x) for x in history.parameters])
    np.testing.assert_allclose(history.kkt_residual[1:], expected[1:], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", CONSTRAINED)
def test_with_an_equality_it_is_the_gradient_along_the_constraint(method):
    x = parameter(0.3, 0.7)
    arguments = dict(method=method, constraints=[Constraint(lambda: x.sum(), lower=1, upper=1)])
    optimizer = MinimizeWrapper([x], arguments, keep_parameters=True, start_check=False)
    optimizer.step(lambda: (x * torch.tensor([1.0, 3.0], dtype=torch.float64) * x).sum())
    history = optimizer.history
    along = [abs(2 * a - 6 * b) / 2 for a, b in history.parameters]  # on (1, −1)/√2; each entry has 1/√2 of it
    known = np.isfinite(history.kkt_residual)
    assert known[0]
    np.testing.assert_allclose(history.kkt_residual[known], np.array(along)[known], rtol=1e-6, atol=1e-9)
    assert history.kkt_residual[known][-1] < 1e-4
    assert history.grad_norm[-1] > 1


@pytest.mark.parametrize("method", CONSTRAINED)
def test_an_inequality_that_is_not_active_explains_nothing(method):
    x = parameter(2.0, 1.0)
    arguments = dict(method=method, constraints=[Constraint(lambda: x.sum(), upper=1e4)])
    optimizer = MinimizeWrapper([x], arguments, start_check=False)
    optimizer.step(lambda: (x**2).sum())
    history = optimizer.history
    assert history[0].kkt_residual == pytest.approx(4.0, rel=1e-3)
    assert np.nanmin(history.kkt_residual) < 1e-3


@pytest.mark.parametrize("method", [*BOUNDED, *CONSTRAINED])
def test_it_costs_no_closure_call(method, monkeypatch):
    arguments = dict(bounds=[(-2, 0.5), (0, 2)])
    if METHODS[method].constraints:
        arguments["constraints"] = [Constraint(lambda x: x.sum(), upper=1)]
    seen = run(method, **arguments).history
    monkeypatch.setattr("torchmin_nb.core.optimizers.minimize.IterateResidual", lambda *known: lambda point: None)
    alone = run(method, **arguments).history
    assert np.isnan(alone.kkt_residual).all()
    for column in ("nfev", "njev", "nhvp", "loss"):
        np.testing.assert_array_equal(seen.column(column), alone.column(column))


def test_rejected_steps_do_not_compute_it_again(monkeypatch):
    points = []

    def counted(constraint, x):
        points.append(x.copy())
        return jacobian(constraint, x)

    from torchmin_nb.core.objective.constraints import ConstraintSet

    jacobian = ConstraintSet.linearised
    monkeypatch.setattr(ConstraintSet, "linearised", counted)
    history = run("trust-constr", constraints=[Constraint(lambda x: x[0] * x[1], upper=1)]).history
    rejected = (history.accepted[1:] == 0).sum()
    assert rejected > 0
    assert len(points) <= len(history) - rejected + 2  # the check at the end asks twice


@pytest.mark.parametrize("method", WITHOUT_GRADIENT)
def test_without_a_gradient_it_is_not_known(method):
    history = run(method, bounds=[(-2, 0.5), (0, 2)]).history
    assert np.isnan(history.kkt_residual).all()


@pytest.mark.parametrize("method", ["BFGS", "trust-ncg", "L-BFGS-B"])
def test_without_bounds_and_constraints_there_is_none(method):
    assert np.isnan(run(method).history.kkt_residual).all()


def test_no_constraint_is_differentiated_by_differences_for_it():
    calls = []

    def circle(x):
        calls.append(1)
        return 1 - x @ x

    optimizer = run("SLSQP", constraints=[{"type": "ineq", "fun": circle}])
    assert np.isnan(optimizer.history.kkt_residual).all()
    assert optimizer.result.kkt_residual is not None


def test_bounded_least_squares_report_it():
    x = parameter(2.0, 2.0)
    optimizer = LeastSquaresWrapper([{"params": [x], "bounds": (0.5, 3.0)}], "trf", keep_parameters=True)
    optimizer.step(lambda: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0], x[0] + x[1]]))
    history = optimizer.history
    assert np.isfinite(history.kkt_residual).all()
    assert history.kkt_residual[-1] < 1e-4 * history.kkt_residual[0]


def test_it_is_stored_and_loaded(tmp_path):
    history = run("L-BFGS-B", bounds=[(-2, 0.5), (0, 2)]).history
    history.to_json(tmp_path / "run.json")
    loaded = History.from_json(tmp_path / "run.json")
    assert loaded == history
    np.testing.assert_array_equal(loaded.kkt_residual, history.kkt_residual)
