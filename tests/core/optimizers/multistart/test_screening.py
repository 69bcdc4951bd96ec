"""The losses at all starts, before the runs."""

import numpy as np
import pytest
import torch

from torchmin_nb.core.optimizers.multistart.screening import screen
from torchmin_nb.core.parameters.flat import FlatParameters
from torchmin_nb.errors import InconsistentClosureError

ROWS = np.random.default_rng(0).normal(size=(3000, 3))


class Fit:
    """A closure with a model and a loss of it."""

    def __init__(self):
        self.model = torch.nn.Linear(2, 1).double()
        self.calls = 0

    @staticmethod
    def loss(model):
        return (model(torch.ones(4, 2, dtype=torch.float64)) - 1).square().mean()

    def __call__(self):
        self.calls += 1
        loss = self.loss(self.model)
        loss.backward()
        return loss


def expected(rows):
    return (rows.sum(axis=1) - 1) ** 2


def test_a_closure_with_a_model_and_a_loss_is_evaluated_together():
    fit = Fit()
    screening = screen(ROWS, fit, None, FlatParameters(list(fit.model.parameters())))
    assert screening.together
    assert fit.calls == 1
    assert screening.losses == pytest.approx(expected(ROWS), rel=1e-12)


def test_any_other_closure_is_called_at_each_start():
    fit = Fit()
    screening = screen(ROWS[:20], lambda: fit(), None, FlatParameters(list(fit.model.parameters())))
    assert not screening.together
    assert fit.calls == 20
    assert screening.losses == pytest.approx(expected(ROWS[:20]), rel=1e-12)


@pytest.mark.parametrize("together", [True, False])
def test_the_best_starts(together):
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def loss(parts):
        return (parts[0].sum() - 1).square()

    screening = screen(ROWS, lambda: loss([x]), loss if together else None, FlatParameters([x]))
    assert screening.together == together
    assert screening.best(5) == np.argsort(expected(ROWS), kind="stable")[:5].tolist()
    assert x.tolist() == [0, 0, 0]
    assert x.grad is None


def test_residuals_and_errors():
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)

    def residuals():
        if x > 2:
            raise RuntimeError("out of range")
        return torch.cat([x, 2 * x])

    screening = screen(np.array([[1.0], [3.0], [-2.0]]), residuals, None, FlatParameters([x]))
    assert screening.losses == pytest.approx([2.5, np.nan, 10.0], nan_ok=True)
    assert screening.best(3) == [0, 2, 1]


def test_a_loss_that_differs_from_the_closure_is_an_error():
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(InconsistentClosureError, match="must compute the same"):
        screen(ROWS, lambda: x.sum(), lambda parts: 2 * parts[0].sum(), FlatParameters([x]))


def test_a_loss_that_vmap_refuses_is_computed_one_by_one():
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def loss(parts):
        return parts[0].sum() if parts[0].sum() > 0 else parts[0].square().sum()

    screening = screen(ROWS[:8], lambda: loss([x]), loss, FlatParameters([x]))
    assert not screening.together
    assert np.isfinite(screening.losses).all()
