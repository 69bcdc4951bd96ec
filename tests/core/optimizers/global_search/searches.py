"""Functions with many minima, and the six searches ready to run: what these tests share."""

import inspect
import math

import numpy as np
import pytest
import scipy.optimize
import torch

import torchmin_nb
from torchmin_nb import GLOBAL_METHODS

WRAPPERS = {
    "basinhopping": torchmin_nb.BasinHoppingWrapper,
    "dual_annealing": torchmin_nb.DualAnnealingWrapper,
    "shgo": torchmin_nb.SHGOWrapper,
    "differential_evolution": torchmin_nb.DifferentialEvolutionWrapper,
    "direct": torchmin_nb.DirectWrapper,
    "brute": torchmin_nb.BruteWrapper,
}
WITH_LOCAL = ("basinhopping", "dual_annealing", "shgo")
BOXED = [name for name, spec in GLOBAL_METHODS.items() if spec.bounds]
EACH = pytest.mark.parametrize("name", GLOBAL_METHODS)
EACH_BOXED = pytest.mark.parametrize("name", BOXED)


def rastrigin(x):
    return 10 * x.numel() + (x**2 - 10 * torch.cos(2 * math.pi * x)).sum()


def ackley(x):
    return -20 * torch.exp(-0.2 * x.square().mean().sqrt()) - torch.cos(2 * math.pi * x).mean().exp() + 20 + math.e


def himmelblau(p):
    x, y = p
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def bowl(x):
    return ((x - 0.3) ** 2).sum()


RASTRIGIN = (-5.12, 5.12)


class Loss:
    """A closure on one parameter, counting its calls; `at` which of them it does something."""

    def __init__(self, function, x0, dtype=torch.float64, at=None, do=None):
        self.x = torch.nn.Parameter(torch.tensor(x0, dtype=dtype))
        self.function, self.at, self.do = function, at, do
        self.calls, self.lowest = 0, math.inf

    def __call__(self):
        if self.calls == self.at:
            self.do()
        self.calls += 1
        loss = self.function(self.x)
        self.lowest = min(self.lowest, float(loss.detach()))
        return loss


def short(name, bounds=RASTRIGIN, **kwargs):
    """Keywords of a quick run with a seed, the same every time."""
    rows = GLOBAL_METHODS[name].options
    quick = {"niter": 12, "maxiter": 30, "Ns": 15, "bounds": bounds, "rng": 1, "stepsize": 1.0}
    quick |= {"n": 32, "sampling_method": "sobol"}
    return {key: value for key, value in quick.items() if key in rows} | kwargs


def optimizer(name, params, kwargs=None, minimizer_args=None, **common):
    if name in WITH_LOCAL:
        return WRAPPERS[name](params, minimizer_args, kwargs, **common)
    return WRAPPERS[name](params, kwargs, **common)


def run(name, loss, kwargs=None, minimizer_args=None, **common):
    made = optimizer(name, [loss.x], short(name) if kwargs is None else kwargs, minimizer_args, **common)
    returned = made.step(loss)
    assert float(returned) == pytest.approx(made.result.fun, nan_ok=True)
    return made


def numpy_rastrigin(x):
    return 10 * x.size + float((x**2 - 10 * np.cos(2 * np.pi * x)).sum())


def numpy_gradient(x):
    return 2 * x + 20 * np.pi * np.sin(2 * np.pi * x)


def seeded(name, seed):
    """The seed as the installed SciPy takes it."""
    known = inspect.signature(getattr(scipy.optimize, name)).parameters
    return {"rng": seed} if "rng" in known else {"seed": np.random.default_rng(seed)}


X0 = [2.2, -1.3]
BOX = [RASTRIGIN, RASTRIGIN]


def holed(function, value):
    """Undefined on the left half."""
    return lambda x: function(x) if x[0] > 0.5 else function(x) * value
