"""Through the wrapper every method takes the very run that plain SciPy takes with analytic derivatives."""

from collections import Counter

import numpy as np
import pytest
import scipy.optimize
import torch

from tests.core.problems import PROBLEMS
from tests.core.scipys import METHODS
from torchmin_nb import MinimizeWrapper
from torchmin_nb.core.autodiff.hessian import positive_definite
from torchmin_nb.core.runtime.blas_threads import blas_threads

COUNTS = ("nit", "nfev", "njev", "nhev")

# Bounds for runs that are slow, or that wander long enough for the last bit of a product to matter.
MAXITER = {
    **{("COBYLA", name): 150 for name in PROBLEMS},
    **{("COBYQA", name): 60 for name in PROBLEMS},
    **{("Nelder-Mead", name): 300 for name in PROBLEMS},
    ("Powell", "Rosenbrock 5"): 10,
    ("Powell", "Rosenbrock 20"): 3,
    ("Powell", "Powell singular"): 10,
    ("SLSQP", "Rosenbrock 20"): 40,
    ("Newton-CG", "Wood"): 40,
}

# (method, problem): how far the counts may differ, measured. Where a problem has its gradient to the last bit in both
# forms the first-order and gradient-free runs are the same to the last bit; products H·v are never.
COUNT_ALLOWANCE = {
    ("trust-constr", "Rosenbrock 20"): 1,  # ends once the trust radius is below xtol: one shrinking more, or less
    # exp differs in the last bit between NumPy and torch on some processors, and COBYLA's last steps with it.
    ("COBYLA", "logistic regression"): 12,
}

# (method, problem): how far iterates may differ on the way, measured; 1e-7 for all others.
ITERATE_ALLOWANCE = {
    ("trust-ncg", "Rosenbrock 20"): 1e-4,  # 130 truncated conjugate-gradient solves pass rounding on: 2e-5
    ("TNC", "Wood"): 1e-5,  # its Hessian is differences of gradients, which magnify the last bit: 2e-6
    ("TNC", "logistic regression"): 1e-5,  # the same: 8e-7
    ("COBYLA", "logistic regression"): 1e-4,  # its own tolerance
}


def analytic(spec, problem):
    """Derivatives in NumPy, of the kind that the wrapper hands over; and a count of the calls."""
    calls = Counter()

    def counted(name, function):
        def count(*args):
            calls[name] += 1
            return function(*args)

        return count

    given = {}
    if spec.gradient != "none":
        given["jac"] = counted("njev", problem.grad)
    if spec.curvature == "hvp":
        given["hessp"] = counted("nhev", lambda x, v: problem.hess(x) @ v)
    if spec.curvature == "dense":
        given["hess"] = counted(
            "nhev",
            (lambda x: positive_definite(problem.hess(x), np.finfo(float).eps)) if spec.shift else problem.hess,
        )
    return given, calls


def plain_run(spec, problem, options):
    given, calls = analytic(spec, problem)
    iterates, differentiated = [], []
    if spec.callback_at == "trial":
        gradient = given["jac"]
        given["jac"] = lambda x: differentiated.append(x.copy()) or gradient(x)
    with blas_threads(1):
        result = scipy.optimize.minimize(
            problem.f,
            problem.x0,
            method=spec.name,
            options=options,
            callback=lambda x, *state: iterates.append(x),
            **given,
        )
    if spec.callback_at == "trial":  # The iterates are where the gradient was asked for, and the end.
        iterates = differentiated[1:]
        iterates += [] if np.array_equal(differentiated[-1], result.x) else [result.x]
    return result, calls, iterates


def wrapped_run(spec, problem, options):
    """The optimizer after its run, and the number of closure calls, counted by the closure."""
    x = torch.nn.Parameter(torch.tensor(problem.x0))
    calls = Counter()

    def closure():
        calls["closure"] += 1
        return problem.loss(x)

    arguments = dict(method=spec.name, options=options)
    optimizer = MinimizeWrapper([x], arguments, start_check=False, keep_parameters=True)
    optimizer.step(closure)
    return optimizer, calls["closure"]


# Before NumPy 2 some processors round products in BLAS otherwise than torch does, and long runs pass that on.
ROUNDED_OTHERWISE = (
    {
        *((name, "Rosenbrock 20") for name in ("Newton-CG", "trust-ncg", "trust-constr")),
        ("COBYLA", "logistic regression"),
    }
    if np.lib.NumpyVersion(np.__version__) < "2.0.0"
    else set()
)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
@pytest.mark.whole
def test_the_run_is_scipys(spec, problem):
    pair = spec.name, problem.name
    if pair in ROUNDED_OTHERWISE:
        pytest.skip("the last bit of a product differs")
    options = {"maxiter": MAXITER[pair]} if pair in MAXITER else {}
    plain, calls, iterates = plain_run(spec, problem, options)
    optimizer, closure_calls = wrapped_run(spec, problem, options)
    result = optimizer.result

    # Where SciPy does not say, its calls do: COBYLA's iterations, TNC's gradients.
    expected = {"nit": len(iterates), "njev": calls["njev"], "nhev": 0} | {n: plain[n] for n in COUNTS if n in plain}
    for name in COUNTS:
        assert abs(result[name] - expected[name]) <= COUNT_ALLOWANCE.get(pair, 0), name
    assert (result.success, result.status, result.message) == (plain.success, plain.status, plain.message)
    np.testing.assert_allclose(result.x, plain.x, rtol=0, atol=ITERATE_ALLOWANCE.get(pair, 1e-7))
    assert result.fun == pytest.approx(plain.fun, rel=1e-7, abs=1e-8)

    # The memo works, and watching costs nothing.
    assert closure_calls == optimizer.history.totals.nfev <= result.nfev

    # Each iteration of the history is SciPy's iterate, with the loss and gradient of that very point.
    path = optimizer.history.parameters
    if pair not in COUNT_ALLOWANCE and spec.callback_at == "evaluation":  # its iterates: see test_iterates.py
        assert len(path) == plain.nit + 1
    elif pair not in COUNT_ALLOWANCE:
        start = spec.first_callback_is_start
        np.testing.assert_allclose(path[1:], iterates[start:], rtol=0, atol=ITERATE_ALLOWANCE.get(pair, 1e-7))
    np.testing.assert_allclose(optimizer.history.loss, [problem.f(x) for x in path], rtol=1e-12, atol=1e-15)
    if spec.gradient != "none":
        norms = [np.linalg.norm(problem.grad(x)) for x in path]
        np.testing.assert_allclose(optimizer.history.grad_norm, norms, rtol=1e-9, atol=1e-12)


def test_every_exception_is_of_a_pair_that_exists():
    pairs = {(method, problem) for method in METHODS for problem in PROBLEMS}
    assert {*MAXITER, *COUNT_ALLOWANCE, *ITERATE_ALLOWANCE} <= pairs
