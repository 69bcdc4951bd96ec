"""The line search of Newton-CG is SciPy's with bounds of its own."""

import torch

from tests.core.solvers.test_second_order import START, compare, rosenbrock


def test_a_step_is_at_most_50_at_first():
    """Where the curvature is negative the step is short: 0.12 from 8.5, where the minimum is at 0."""
    ours, _ = compare("Newton-CG", lambda x: -1e14 * torch.exp(-x.square().sum() / 2), (8.5,))
    assert ours.ending.status == 2


def test_the_first_trial_is_1_whatever_the_loss():
    """Later ones are shorter where the loss hardly decreased before."""
    start = rosenbrock(torch.tensor(START, dtype=torch.float64))
    compare("Newton-CG", lambda x: rosenbrock(x) - start - 1e-3, START)
