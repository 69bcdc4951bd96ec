"""A NaN or infinite trial makes the method back off; it never ends a run, and never is where one ends."""

import math

import numpy as np
import pytest
import torch

from tests.core.scipys import METHODS
from torchmin_nb import MinimizeWrapper

# Powell's Brent search fits a parabola through the +inf that it is shown, and goes on with a golden section.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in scalar:RuntimeWarning:scipy")

START = (-1.2, 1.0)
GRADIENT = [name for name, spec in METHODS.items() if spec.gradient != "none"]
SECOND_ORDER = [name for name, spec in METHODS.items() if spec.curvature != "none"]
WALLS = {
    "a circle close by": lambda p: bool(p.norm() > 1.6),
    "beside the start": lambda p: bool(p[0] < -1.25),
    "below the valley": lambda p: bool(p[1] < -0.1),
    "above the valley": lambda p: bool(p[1] > 1.2),
}
BAD = {"NaN": math.nan, "inf": math.inf}


def _rosen(p):
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def _parameter(dtype=torch.float64, start=START):
    return torch.nn.Parameter(torch.tensor(start, dtype=dtype))


def _run(method, closure, p, **kwargs):
    optimizer = MinimizeWrapper([p], method, max_evaluations=400, keep_evaluations=True, **kwargs)
    start = float(closure().detach())
    returned = float(optimizer.step(closure))
    return optimizer, start, returned


def _require_sound(optimizer, start, returned, p, wall):
    result, history = optimizer.result, optimizer.history
    assert math.isfinite(returned)
    assert math.isfinite(result.fun)
    assert np.isfinite(result.x).all()
    assert np.isfinite(history.loss).all()
    assert not wall(p.detach())
    assert result.fun == pytest.approx(float(_rosen(p.detach())), rel=1e-4, abs=1e-6)
    assert result.fun < 0.2 * start
    if result.success:
        assert np.linalg.norm(result.x - np.array(START)) > 0.5


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("wall", WALLS.values(), ids=WALLS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.crossed
def test_every_method_backs_off_from_a_wall(method, wall, bad):
    p = _parameter()

    def closure():
        return _rosen(p) + bad if wall(p.detach()) else _rosen(p)

    optimizer, start, returned = _run(method, closure, p)
    _require_sound(optimizer, start, returned, p, wall)


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_backs_off_too(method):
    p, wall = _parameter(torch.float32), WALLS["above the valley"]

    def closure():
        return _rosen(p) * torch.nan if wall(p.detach()) else _rosen(p)

    optimizer, start, returned = _run(method, closure, p)
    _require_sound(optimizer, start, returned, p, wall)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_backs_off_from_a_bad_trial(method):
    """A point that is NaN among good ones, whatever the method tries second and third."""
    p, calls = _parameter(), {}

    def closure():
        index = calls.setdefault(p.detach().numpy().tobytes(), len(calls))
        return _rosen(p) * torch.nan if index in (1, 2) else _rosen(p)

    optimizer, start, returned = _run(method, closure, p, start_check=False)
    _require_sound(optimizer, start, returned, p, lambda p: False)
    assert [event.index for event in optimizer.history.evaluations if np.isnan(event.loss)][:2] == [1, 2]


@pytest.mark.parametrize("maxiter", [1, 2, 3, 4])
@pytest.mark.parametrize("method", ["SLSQP", "TNC", "L-BFGS-B", "CG"])
def test_a_run_cut_short_does_not_end_beyond_the_wall(method, maxiter):
    p, wall = _parameter(), WALLS["a circle close by"]
    optimizer = MinimizeWrapper([p], {"method": method, "options": {"maxiter": maxiter}})
    returned = optimizer.step(lambda: _rosen(p) * torch.nan if wall(p.detach()) else _rosen(p))
    assert not wall(p.detach())
    assert optimizer.result.fun == float(returned) == pytest.approx(float(_rosen(p.detach())))


@pytest.mark.parametrize("method", GRADIENT)
def test_a_nonfinite_gradient_with_a_finite_loss_backs_off(method):
    p, wall = _parameter(), WALLS["above the valley"]

    def closure():
        loss = _rosen(p)
        if wall(p.detach()):
            loss = loss.detach() + (0 * p).sqrt().sum()  # 0 in value, infinite in slope
        return loss

    optimizer, start, returned = _run(method, closure, p)
    _require_sound(optimizer, start, returned, p, wall)


@pytest.mark.parametrize("method", GRADIENT)
def test_the_users_own_jac_backs_off(method):
    p, wall = _parameter(), WALLS["above the valley"]

    def jac(x):
        return np.array([-2 * (1 - x[0]) - 400 * x[0] * (x[1] - x[0] ** 2), 200 * (x[1] - x[0] ** 2)], dtype=np.float64)

    def closure():
        return _rosen(p) * torch.nan if wall(p.detach()) else _rosen(p)

    optimizer, start, returned = _run({"method": method, "jac": jac}, closure, p)
    _require_sound(optimizer, start, returned, p, wall)


@pytest.mark.parametrize("method", SECOND_ORDER)
def test_a_nonfinite_product_ends_the_run_at_the_best_point(method):
    """`where` hides a NaN from loss and gradient, but not from the second derivative."""
    p = _parameter(start=(1.0, 2.0))
    seen = []

    def closure():
        seen.append(float((p.detach() ** 4).sum()))
        loss = (p**4).sum()
        if p.detach().norm() < 1.6:
            loss = loss + (p[0].detach() - p[0]).abs() ** 1.5  # 0, slope 0, infinite curvature
        return loss

    optimizer = MinimizeWrapper([p], method)
    optimizer.step(closure)
    assert optimizer.result.status == 105
    assert not optimizer.result.success
    assert "NaN or infinite" in optimizer.result.message
    assert float((p.detach() ** 4).sum()) == min(seen)
    assert optimizer.result.fun == min(seen) < 17


@pytest.mark.parametrize("method", METHODS)
def test_a_target_is_not_reached_by_minus_infinity(method):
    p = _parameter()

    def closure():
        return _rosen(p) - torch.inf if p.detach().norm() > 1.6 else _rosen(p)

    optimizer = MinimizeWrapper([p], method, target_loss=1.0, max_evaluations=400)
    optimizer.step(closure)
    assert optimizer.result.fun <= 1.0
    assert optimizer.result.success
    assert float(_rosen(p.detach())) <= 1.0
