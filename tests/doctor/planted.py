"""Runs with a planted failure, and healthy ones: name -> (expected rule, function that returns the report)."""

import itertools
import warnings

import numpy as np
import scipy.optimize
import torch
from sklearn.datasets import load_iris

from tests.published.more_garbow_hillstrom import MGH
from tests.published.nist_strd import STRD
from tests.quartics import Detaching
from torchmin_nb import Constraint, LeastSquaresWrapper, MinimizeWrapper, full_batch, observe
from torchmin_nb.nist import NIST
from torchmin_nb.problems import PROBLEMS

FAILURES, HEALTHY = {}, {}
HEALTHY_RULES = {"converged", "random steps"}


def planted(rule):
    def register(case):
        FAILURES[case.__name__] = rule, case
        return case

    return register


def healthy(case):
    HEALTHY[case.__name__] = case
    return case


def parameter(*values, dtype=torch.float64):
    return torch.nn.Parameter(torch.tensor(values, dtype=dtype))


def diagnosed(params, closure, arguments="BFGS", wrapper=MinimizeWrapper, budget=None, **keywords):
    """The report after a run of this closure; errors of the run are a part of it."""
    optimizer = wrapper(params, arguments, **keywords)
    with warnings.catch_warnings(action="ignore"):
        run = optimizer.start(closure)
        try:
            run.wait()
        except Exception:
            assert run.state == "failed"
        return run.diagnose(budget=budget)


def observed(optimizer, closure, steps):
    run = observe(optimizer, closure, steps=steps)
    run.wait()
    return run.diagnose()


def network(*sizes, activation=torch.nn.Tanh, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(a, b, dtype=dtype) for a, b in itertools.pairwise(sizes)]
    chain = [part for layer in layers for part in (layer, activation())][:-1]
    return torch.nn.Sequential(*chain)


def line(m=40, dtype=torch.float64):
    x = torch.linspace(-1, 1, m, dtype=dtype)[:, None]
    return x, torch.sin(3 * x)


def a_design(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


# Failures


@planted("NaN or infinite")
def nan_at_the_start():
    x = parameter(-1.0, 2.0)
    return diagnosed([x], lambda: (x[0].log() + x[1]) ** 2)


@planted("NaN or infinite")
def trials_beyond_a_logarithm():
    """The end point is finite, and the message says nothing of NaN."""
    data, mean, spread = 2 + 0.01 * a_design(100, seed=0), parameter(0.0), parameter(1.0)
    closure = lambda: (torch.log(spread - 0.9) + (data - mean) ** 2 / (2 * spread**2)).sum()  # noqa: E731
    return diagnosed([mean, spread], closure, "L-BFGS-B")


@planted("NaN or infinite")
def nan_after_steps_of_sgd():
    x = parameter(3.0, 3.0)
    return observed(torch.optim.SGD([x], lr=0.5), lambda: (x.sqrt() + x).sum(), 50)


@planted("NaN or infinite")
def gradient_of_a_square_root_at_zero():
    x = parameter(0.0, 1.0)
    return diagnosed([x], lambda: (x**2).sum() + x[0].square().sqrt() * 0, "L-BFGS-B")


@planted("error")
def a_closure_that_raises():
    x, calls = parameter(-1.2, 1.0), []

    def closure():
        calls.append(1)
        if len(calls) > 8:
            raise KeyError("missing")
        return rosenbrock(x)

    return diagnosed([x], closure)


@planted("stochastic closure")
def dropout():
    model = torch.nn.Sequential(network(1, 10), torch.nn.Tanh(), torch.nn.Dropout(0.3), network(10, 1))
    x, y = line()
    return diagnosed(model.parameters(), lambda: ((model(x) - y) ** 2).mean(), "L-BFGS-B")


@planted("stochastic closure")
def a_batch_drawn_inside():
    model = network(1, 8, 1)
    x, y = line()

    def closure():
        chosen = torch.randint(len(x), (8,))
        return ((model(x[chosen]) - y[chosen]) ** 2).mean()

    return diagnosed(model.parameters(), closure, dict(method="BFGS", options=dict(maxiter=50)))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x**3).sum()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * x**2


@planted("wrong gradient")
def a_wrong_backward():
    x, y = parameter(1.0, 2.0), parameter(0.5, 0.5)
    return diagnosed([x, y], lambda: ((y - 1) ** 2).sum() + Doubled.apply(x - 3) ** 2)


@planted("wrong gradient")
def a_detached_part():
    a, b = parameter(1.0, 2.0), parameter(3.0)
    return diagnosed(
        [a, b], lambda: (a.detach().sum() * b - 3).square().sum() + (a - 1).square().sum() * b.square().sum()
    )


@planted("wrong gradient")
def a_clipped_gradient():
    x = parameter(-1.2, 1.0)

    def closure():
        loss = rosenbrock(x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([x], 1.0)
        return loss

    return diagnosed([x], closure)


@planted("wrong gradient")
def a_hook_on_one_small_entry():
    """The other slope is a hundred times as large, and hides it along a random direction."""
    x = parameter(-1.2, 1.0)
    x.register_hook(lambda slope: slope * torch.tensor([1.0, 0.5], dtype=slope.dtype))
    return diagnosed([x], lambda: rosenbrock(x), start_check=False)


@planted("wrong gradient")
def a_wrong_jac():
    x = parameter(-1.2, 1.0)
    jac = lambda z: np.array([2 * (z[0] - 1), 200 * (z[1] - z[0] ** 2)])  # noqa: E731
    return diagnosed([x], lambda: rosenbrock(x), dict(method="BFGS", jac=jac))


@planted("wrong second derivatives")
def a_wrong_hessp():
    x = parameter(-1.2, 1.0)
    request = dict(method="Newton-CG", hessp=lambda z, v: -np.array([2.0, 200.0]) * v, options=dict(maxiter=30))
    return diagnosed([x], lambda: rosenbrock(x), request)


@planted("wrong second derivatives")
def a_wrong_hess():
    x = parameter(-1.2, 1.0)
    request = dict(method="trust-exact", hess=lambda z: np.diag([1e4, 1e4]), options=dict(maxiter=50))
    return diagnosed([x], lambda: rosenbrock(x), request)


@planted("wrong second derivatives")
def a_backward_that_is_constant():
    x = parameter(3.0, -2.0)
    request = dict(method="Newton-CG", options=dict(maxiter=8))
    return diagnosed([x], lambda: Detaching.apply(x).sum() + 0.01 * ((x - 1) ** 2).sum(), request)


@planted("dead or saturated layer")
def inputs_in_thousands():
    """Only the layers behind still learn."""
    model, (x, y) = network(1, 10, 10, 1), line()
    x = 1e4 * x
    return diagnosed(
        model.parameters(), lambda: ((model(x) - y) ** 2).mean(), dict(method="L-BFGS-B", options=dict(maxiter=50))
    )


@planted("dead or saturated layer")
def dead_relu():
    model = network(1, 8, 8, 1, activation=torch.nn.ReLU)
    with torch.no_grad():
        model[0].bias.fill_(-10)
    x, y = line()
    return diagnosed(model.parameters(), lambda: ((model(x) - y) ** 2).mean(), "L-BFGS-B")


@planted("dead or saturated layer")
def saturated_tanh():
    model = network(1, 8, 1)
    with torch.no_grad():
        model[0].weight.mul_(20)
        model[0].bias.fill_(300)
    x, y = line()
    return diagnosed(model.parameters(), lambda: ((model(x) - y) ** 2).mean(), "L-BFGS-B")


@planted("infeasible")
def contradicting_constraints():
    x = parameter(2.0, 2.0)
    constraints = [Constraint(lambda: x[0] + x[1], upper=1), Constraint(lambda: x[0] + x[1], lower=3)]
    return diagnosed([x], lambda: (x**2).sum(), dict(method="SLSQP", constraints=constraints))


@planted("dependent constraints (LICQ)")
def the_same_curved_constraint_twice():
    """The feasible points are on a parabola, near which long steps along the tangent lead away from it."""
    x = parameter(0.2, 0.2)
    same = [Constraint(lambda k=k: k * (x[0] ** 2 + x[1] - 2), lower=0, upper=0) for k in (1, 2)]
    return diagnosed([x], lambda: 0.1 * (x**2).sum() - x.sum(), dict(method="SLSQP", constraints=same))


@planted("infeasible")
def a_constraint_without_a_solution():
    x = parameter(1.0, 0.5)
    constraints = [Constraint(lambda: x[0] ** 2 + x[1] ** 2 + 1, lower=0, upper=0)]
    return diagnosed([x], lambda: (x**2).sum(), dict(method="SLSQP", constraints=constraints))


@planted("dependent constraints (LICQ)")
def a_cusp():
    x = parameter(0.2, 0.1)
    constraints = [Constraint(lambda: (1 - x[0]) ** 3 - x[1], lower=0), Constraint(lambda: x[1], lower=0)]
    return diagnosed([x], lambda: -x[0] * 1.0, dict(method="SLSQP", constraints=constraints, options=dict(maxiter=40)))


@planted("dependent constraints (LICQ)")
def the_same_constraint_twice():
    x = parameter(2.0, 2.0, 1.0)
    same = [
        Constraint(lambda: x[0] + x[1], lower=1, upper=1),
        Constraint(lambda: 2 * x[0] + 2 * x[1], lower=2, upper=2),
    ]
    return diagnosed([x], lambda: (x**4).sum(), dict(method="SLSQP", constraints=same))


@planted("dependent constraints (LICQ)")
def the_same_constraint_twice_from_an_infeasible_start():
    """SLSQP gives up at the start, which violates both."""
    x = parameter(2.0, 1.0, 0.0)
    same = [Constraint(lambda: x[0] + x[1], lower=1, upper=1), Constraint(lambda: 3 * (x[0] + x[1]), lower=3, upper=3)]
    return diagnosed([x], lambda: ((x - 3) ** 4).sum(), dict(method="SLSQP", constraints=same))


@planted("dependent constraints (LICQ)")
def a_cusp_whose_feasible_set_is_one_point():
    """The end is a little beside it, where a long step along the linearised constraints leads away."""
    x = parameter(2.0, 1.0)
    cusp = [Constraint(lambda: x[0] - x[1] ** 2, lower=0), Constraint(lambda: -x[0] - x[1] ** 2, lower=0)]
    closure = lambda: (x[0] + 1) ** 2 + x[1] ** 2 - x[1]  # noqa: E731
    return diagnosed([x], closure, dict(method="trust-constr", constraints=cusp))


@planted("dependent constraints (LICQ)")
def a_feasible_set_that_is_the_origin():
    """The constraint's gradient vanishes there, and the end point has no size of its own."""
    x = parameter(1.0, 1.0)
    closure = lambda: (x[0] - 1) ** 2 + (x[1] - 2) ** 2  # noqa: E731
    point = [Constraint(lambda: x.square().sum(), lower=0, upper=0)]
    return diagnosed([x], closure, dict(method="SLSQP", constraints=point))


@planted("unidentifiable parameters")
def an_encoder_and_a_decoder():
    """Their product is determined. Small curvatures that are clear may follow the flat one closely."""
    x = a_design(200, 5, seed=0)
    x[:, 4], x[:, 1] = x[:, 0] + 0.02 * x[:, 4], x[:, 0] + 0.3 * x[:, 1]
    encoder, decoder = parameter([0.3] * 5), parameter(*[[0.2]] * 5)
    return diagnosed([encoder, decoder], lambda: ((x @ encoder.T @ decoder.T - x) ** 2).sum() / 400, "L-BFGS-B")


@planted("unidentifiable parameters")
def four_atoms():
    """Three translations are exactly flat, and three rotations almost."""
    x = torch.nn.Parameter(torch.tensor([[0, 0, 0], [1.1, 0, 0], [0.5, 1, 0], [0.5, 0.4, 0.9]], dtype=torch.float64))
    i, j = torch.triu_indices(4, 4, 1)

    def closure():
        squared = ((x[i] - x[j]) ** 2).sum(1)
        return (squared**-6 - squared**-3).sum()

    return diagnosed([x], closure)


@planted("unidentifiable parameters")
def a_product_of_two_parameters_far_along_its_curve():
    """Back to the curve on which a·k stays the same it takes more than five steps."""
    a, k, b = parameter(1.0), parameter(2.0), parameter(0.5)
    t = torch.linspace(0, 1, 30, dtype=torch.float64)
    return diagnosed([a, k, b], lambda: ((a * k * torch.exp(-b * t) - 3 * torch.exp(-t)) ** 2).mean(), "trust-exact")


@planted("not stationary (KKT)")
def a_constrained_run_with_loose_tolerances():
    x = parameter(0.5, 0.5, 0.5)
    ball = [Constraint(lambda: x.square().sum(), upper=2)]
    options = dict(gtol=0.3, xtol=0.1, barrier_tol=0.1)
    closure = lambda: ((x - torch.tensor([2.0, 1.0, 3.0])) ** 4).sum()  # noqa: E731
    return diagnosed([x], closure, dict(method="trust-constr", constraints=ball, options=options))


def frozen_at_bounds(fun, x0, jac, bounds, **unused):
    """Steepest descent that never leaves a bound again."""
    x, low, high = x0.copy(), bounds.lb, bounds.ub
    for _ in range(200):
        free = (x > low) & (x < high)
        x = np.clip(x - 0.05 * np.where(free, jac(x), 0.0), low, high)
    return scipy.optimize.OptimizeResult(x=x, fun=fun(x), success=True, status=0, message="no free slope", nit=200)


@planted("bound with a wrong multiplier")
def a_variable_frozen_at_its_bound():
    x = parameter(0.0, 3.0)
    request = dict(method=frozen_at_bounds, bounds=[(0, 5), (0, 5)])
    return diagnosed([x], lambda: ((x - 2) ** 2).sum(), request)


@planted("dependent constraints (LICQ)")
def a_squared_constraint():
    x = parameter(0.5, 0.2)
    squared = [Constraint(lambda: (x.sum() - 1) ** 2, lower=0, upper=0)]
    return diagnosed([x], lambda: (x**2).sum() - x[0], dict(method="SLSQP", constraints=squared))


@planted("kink")
def absolute_values():
    x = parameter(1.0, -2.0, 0.7)
    return diagnosed([x], lambda: (x - torch.tensor([0.3, 0.1, -0.2])).abs().sum() + 0.1 * (x**2).sum(), "BFGS")


@planted("kink")
def a_largest_entry():
    x = parameter(2.0, -1.0, 0.4)
    return diagnosed([x], lambda: torch.stack([x[0] ** 2 + x[1], -x[1] * 3 + x[2] ** 2, x.square().sum()]).max(), "CG")


@planted("kink")
def a_rounded_loss():
    x = parameter(0.3, 2.2)
    return diagnosed([x], lambda: (torch.round(10 * x) - 7).square().sum() / 100 + 0 * (x**2).sum(), "BFGS")


@planted("saddle")
def a_monkey_saddle():
    x = parameter(0.0, 0.0)
    return diagnosed([x], lambda: x[0] ** 3 - 3 * x[0] * x[1] ** 2 + (x**4).sum(), "BFGS")


@planted("saddle")
def a_saddle_without_curvature():
    """Close by, the loss falls by less than counts."""
    x = parameter(1.0, 0.0)
    return diagnosed([x], lambda: x[0] ** 2 - x[1] ** 4 + x[1] ** 6, "BFGS")


@planted("saddle")
def a_saddle_at_the_start():
    x = parameter(1.0, 0.0)
    return diagnosed([x], lambda: x[0] ** 2 + (x[1] ** 2 - 1) ** 2, "BFGS")


@planted("saddle")
def a_network_of_zeros():
    model = network(1, 6, 1)
    for each in model.parameters():
        each.data.zero_()
    x, y = line()
    return diagnosed(model.parameters(), lambda: ((model(x) - y) ** 2).mean(), "L-BFGS-B")


def exclusive_or(activation, start, method):
    x = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)
    model = network(2, 3, 1, activation=activation)
    for each in model.parameters():
        each.data.fill_(start)
    y = (x.sum(1, keepdim=True) == 1).double()
    return diagnosed(model.parameters(), lambda: ((model(x) - y) ** 2).mean(), method)


@planted("saddle")
def units_that_are_alike():
    return exclusive_or(torch.nn.Sigmoid, 0.1, "L-BFGS-B")


@planted("saddle")
def units_that_are_alike_with_large_weights():
    """The negative curvature is 5e-7 of the largest, and the loss falls nowhere nearby."""
    return exclusive_or(torch.nn.Tanh, 0.5, "BFGS")


@planted("saddle")
def units_that_are_all_zero():
    """Gradient and curvature are exactly zero for all weights of the hidden layer."""
    return exclusive_or(torch.nn.Softplus, 0.0, "BFGS")


@planted("saddle")
def a_saddle_at_zero():
    """BFGS arrives there: the point has no size of its own."""
    x = parameter(1.0, 0.0, 0.5)
    return diagnosed([x], lambda: x[0] ** 2 + (x[1] ** 2 - 1) ** 2 + x[2] ** 2)


@planted("saddle")
def the_flat_saddle_of_wood():
    """Beside the first loss, 19,192, a decrease along negative curvature is nothing."""
    x = parameter(*MGH["14 Wood"].start)
    return diagnosed([x], lambda: MGH["14 Wood"].loss(x), "L-BFGS-B")


@planted("saddle")
def nist_mgh09_from_far():
    """The method reports success in a valley that leads away to infinity."""
    b = parameter(*NIST["MGH09"].starts[0])
    return diagnosed([b], lambda: NIST["MGH09"].residuals(b).square().sum())


@planted("flat start")
def the_tail_of_an_exponential():
    """The loss is 1e-31 in size, and its relative changes are large."""
    x = parameter(12.0, -12.0)
    return diagnosed([x], lambda: -torch.exp(-(x**2).sum() / 4))


@planted("flat start")
def the_tail_of_an_error_function():
    x = parameter(9.0, 1.0)
    return diagnosed([x], lambda: (torch.erf(x[0]) - 0.3) ** 2 + 0 * x[1], "L-BFGS-B")


@planted("no finite minimum")
def a_loss_without_bound():
    x = parameter(1.0, 1.0)
    return diagnosed([x], lambda: x[0] ** 2 - x[1])


@planted("no finite minimum")
def the_tail_of_a_decay():
    x = parameter(0.0, 0.0)
    return diagnosed([x], lambda: torch.exp(-x[0]) + (x[1] - 1) ** 2)


@planted("no finite minimum")
def a_tail_that_is_not_straight():
    """Beside the straight way that is followed there is a little curvature."""
    x = parameter(1.0, 1.0)
    return diagnosed([x], lambda: torch.log1p(torch.exp(x[1] - 2 * x[0])) + 0.5 * (x[1] - 1) ** 2)


@planted("no finite minimum")
def a_variance_of_equal_data():
    """No straight way leads down: the mean must come nearer at the pace of the logarithm of the variance."""
    mean, log = parameter(0.5), parameter(0.0)
    closure = lambda: log + 0.5 * (mean / log.exp()) ** 2  # noqa: E731
    return diagnosed([mean, log], lambda: closure().sum(), dict(method="BFGS", options=dict(maxiter=400)))


@planted("no finite minimum")
def a_power_that_falls():
    """By its flattest direction, which is not that of the point."""
    x = parameter(1.0, -300.0)
    return diagnosed([x], lambda: 1 / (1 + x[0].square()) + (x[1] + 300) ** 2, "L-BFGS-B")


@planted("no finite minimum")
def a_wrong_sign():
    model, (x, y) = network(1, 5, 1), line()
    return diagnosed(model.parameters(), lambda: -((model(x) - y) ** 2).mean(), "L-BFGS-B")


@planted("no finite minimum")
def separable_data():
    """The method reports success, and the loss is 1e-9."""
    x, w = a_design(50, 3, seed=0), parameter(0.0, 0.0, 0.0)
    loss = lambda: torch.nn.functional.binary_cross_entropy_with_logits(x @ w, (x[:, 0] > 0).double())  # noqa: E731
    return diagnosed([w], loss, dict(method="BFGS", options=dict(gtol=1e-9)))


@planted("flat start")
def a_plateau():
    x = parameter(9.0, 9.0)
    return diagnosed([x], lambda: 1 - torch.exp(-(x**2).sum()), "BFGS")


@planted("float32 floor")
def float32_least_squares():
    m = torch.linspace(0, 1, 30)
    x = parameter(*[0.0] * 6, dtype=torch.float32)

    def closure():
        powers = m.to(x.dtype)[:, None] ** torch.arange(6, dtype=x.dtype)
        return ((powers @ x - torch.sin(3 * m.to(x.dtype))) ** 2).mean()

    return observed(torch.optim.LBFGS([x], max_iter=20, line_search_fn="strong_wolfe"), closure, 60)


@planted("float32 floor")
def a_lbfgs_that_ends_inside_its_only_step():
    """Its own limit is far away, so the one step of `observe` is no budget."""
    x, y = line(dtype=torch.float32)
    model = network(1, 8, 1, dtype=torch.float32)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=20000, history_size=50, line_search_fn="strong_wolfe")
    return observed(optimizer, lambda: ((model(x) - y) ** 2).mean(), 1)


def a_line_and_a_constant(constant, method, **keywords):
    """float32 throughout, also in the data that the closure holds."""
    x = a_design(100, 5, seed=0).float()
    y = x @ torch.arange(5.0) + 0.3 * a_design(100, seed=1).float()
    w = parameter(*[0.0] * 5, dtype=torch.float32)
    return diagnosed([w], lambda: constant + ((x @ w - y) ** 2).mean(), method, **keywords)


@planted("float32 floor")
def float32_beside_a_constant():
    """The search fails where slopes are 500 times the tolerance; the decrease that is left is below rounding."""
    return a_line_and_a_constant(1000.0, "BFGS")


@planted("float32 floor")
def float32_beside_a_constant_with_success():
    return a_line_and_a_constant(1000.0, "L-BFGS-B")


@planted("float32 floor")
def float32_beside_large_residuals():
    t = torch.linspace(0, 1, 100)
    y = 3 * torch.sin(6 * t) + 22 * torch.sign(torch.sin(97 * t))
    p = parameter(1.0, 5.0, dtype=torch.float32)
    return diagnosed([p], lambda: ((p[0] * torch.sin(p[1] * t) - y) ** 2).sum(), "CG")


@planted("float32 floor")
def a_loss_in_half_precision():
    x, w = a_design(50, 4, seed=3), parameter(0.0, 0.0, 0.0, 0.0)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64) + a_design(50, seed=4)
    return diagnosed([w], lambda: ((x @ w - y) ** 2).mean().half().double(), start_check=False)


@planted("noise")
def a_loss_of_three_digits():
    """Its gradient is that of the loss before rounding."""
    x, d = parameter(-1.0, 0.5, 2.0), torch.arange(1.0, 4.0)

    def closure():
        loss = ((x - d) ** 2 * d).sum()
        return loss + (torch.round(1e3 * loss) / 1e3 - loss).detach()

    return diagnosed([x], closure, dict(method="CG", options=dict(gtol=1e-8)))


@planted("noise")
def a_loss_of_four_printed_digits():
    """Close by it does not change at all, and the method reports success."""
    x, d = parameter(0.3, -0.7, 1.9), torch.arange(1.0, 4.0)

    def closure():
        loss = ((x - d) ** 2).sum() + 0.3 * (x[0] * x[1]) ** 2
        return loss + (float(f"{loss.item():.4f}") - loss.item())

    return diagnosed([x], closure, dict(method="L-BFGS-B", options=dict(gtol=1e-10, ftol=1e-15)))


@planted("noise")
def noise_that_is_smooth_from_close_by():
    """Its waves are 6e-7 long, and points at equal distances may all meet them alike."""
    x, d = parameter(*np.linspace(0.5, 2, 10).tolist()), torch.arange(1.0, 11.0)
    return diagnosed([x], lambda: ((x - 1) ** 2 * d).sum() + 1e-4 * torch.sin(1e7 * x.detach().sum()))


@planted("noise")
def a_root_by_fourteen_bisections():
    """Gradient and loss jump together, and no operation of the closure has a kink."""
    p = parameter(1.4, 0.6)

    def closure():
        low, high = 0.0, 3.0
        for _ in range(14):
            r = (low + high) / 2
            low, high = (low, r) if r**3 + p[0].item() * r - 2 - p[1].item() > 0 else (r, high)
        r = (low + high) / 2
        change = p[0] * r - p[1] - (p[0] * r - p[1]).detach()
        root = r - change / (3 * r**2 + p[0].detach())
        return (root - 0.8) ** 2 + 0.1 * ((p - 1) ** 2).sum()

    return diagnosed([p], closure, dict(method="BFGS", options=dict(gtol=1e-9)))


@planted("noise")
def noise_at_the_origin():
    """Beside 1e-11, the size of the end point, the noise is a slope that the gradient does not have."""
    x = torch.nn.Parameter(a_design(4, seed=4) + 3)
    closure = lambda: 2 * torch.log1p(x**2).sum() + 1e-5 * torch.sin(3e5 * x.detach()).sum()  # noqa: E731
    return diagnosed([x], closure, dict(method="L-BFGS-B", options=dict(gtol=1e-10, ftol=1e-16)))


class Solved(torch.autograd.Function):
    """A linear system: conjugate gradients that end early, with an exact adjoint."""

    @staticmethod
    def forward(ctx, matrix, right):
        z, r = torch.zeros_like(right), right.clone()
        d = r.clone()
        while r.norm() > 3e-3 * right.norm():
            step = (r @ r) / (d @ matrix @ d)
            z, before, r = z + step * d, r, r - step * (matrix @ d)
            d = r + (r @ r) / (before @ before) * d
        ctx.save_for_backward(matrix, torch.linalg.solve(matrix, right))
        return z

    @staticmethod
    def backward(ctx, slope):
        matrix, z = ctx.saved_tensors
        return -torch.outer(torch.linalg.solve(matrix.T, slope), z), None


@planted("noise")
def an_inner_solver_that_ends_early():
    """Its result is smooth as long as it takes as many iterations."""
    t, k = torch.linspace(0, 1, 30, dtype=torch.float64), parameter(1.0, 0.5, 0.1)
    stencil = torch.from_numpy(2 * np.eye(30) - np.eye(30, k=1) - np.eye(30, k=-1))

    def closure():
        matrix = stencil + torch.diag(0.1 + (k[0] + k[1] * t + k[2] * t**2) ** 2)
        return ((Solved.apply(matrix, torch.sin(3 * t)) - t) ** 2).sum() + 1e-3 * (k**2).sum()

    return diagnosed([k], closure, dict(method="BFGS", options=dict(gtol=1e-9)))


@planted("noise")
def noise_of_an_inner_solver():
    x, scale = parameter(-1.2, 1.0, 0.5), 1e-4

    def closure():
        smooth = rosenbrock(x) + (x[2] - x[0]) ** 2
        return smooth + scale * torch.sin(1e4 * (1e5 * x.detach()).sin()).sum()

    return diagnosed([x], closure, "BFGS")


@planted("unused parameters")
def a_forgotten_layer():
    model = network(1, 6, 1)
    spare = torch.nn.Linear(3, 3, dtype=torch.float64)
    x, y = line()
    closure = lambda: ((model(x) - y) ** 2).mean() + 1e-3 * sum(p.square().sum() for p in model.parameters())  # noqa: E731
    return diagnosed([*model.named_parameters(), *spare.named_parameters("spare")], closure, "BFGS")


@planted("unused parameters")
def a_forgotten_layer_beside_a_flat_valley():
    """Following the flat directions takes all evaluations that are left."""
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(100, 3, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(3, generator=generator, dtype=torch.float64)
    y = y + 0.3 * torch.randn(100, generator=generator, dtype=torch.float64)
    first, spare, last = (torch.nn.Linear(*sizes, dtype=torch.float64) for sizes in ((3, 5), (3, 1), (5, 1)))
    used = [*first.parameters(), *last.parameters()]

    def closure():
        fit = ((last(torch.tanh(first(x))).squeeze(-1) - y) ** 2).mean()
        return fit + 1e-3 * sum(p.square().sum() for p in used)

    parameters = [*first.named_parameters("first"), *spare.named_parameters("spare"), *last.named_parameters("last")]
    return diagnosed(parameters, closure, dict(method="L-BFGS-B", options=dict(maxiter=1000)))


@planted("badly scaled parameters")
def a_rate_and_an_amount():
    t = torch.linspace(0, 10, 30, dtype=torch.float64)
    rate, amount = parameter(3e-7), parameter(2e5)
    y = 5e5 * torch.exp(-8e5 * t * 1e-6)
    closure = lambda: ((amount * torch.exp(-1e6 * rate * t) - y) ** 2).mean()  # noqa: E731
    return diagnosed([("rate", rate), ("amount", amount)], closure, dict(method="CG", options=dict(maxiter=40)))


@planted("badly scaled parameters")
def a_slope_and_a_bend_in_float32():
    """Float64 would go on, and so would float32 in the right units."""
    a, b, t = parameter(1e4, dtype=torch.float32), parameter(1e-4, dtype=torch.float32), torch.linspace(0, 1, 20)
    closure = lambda: ((1e-4 * a * t + 1e5 * b * t**2 - 2 * t - 3) ** 2).mean()  # noqa: E731
    return diagnosed([("a", a), ("b", b)], closure, "CG")


@planted("badly scaled parameters")
def a_diagonal_of_many_sizes():
    x, d = parameter(1.0, 1.0, 1.0, 1.0), torch.tensor([1.0, 1e4, 1e8, 1e10], dtype=torch.float64)
    return diagnosed([x], lambda: (d * (x - 2) ** 2).sum(), dict(method="CG", options=dict(maxiter=30)))


@planted("tolerance too large for the loss")
def a_tiny_loss():
    x = parameter(-1.2, 1.0)
    return diagnosed([x], lambda: 1e-9 * rosenbrock(x), "BFGS")


@planted("tolerance too large for the loss")
def a_large_constant():
    x = parameter(-1.2, 1.0)
    return diagnosed([x], lambda: 1e8 + rosenbrock(x), "L-BFGS-B")


@planted("tolerance too large for the loss")
def a_loose_gtol():
    x = parameter(4.0, 5.0, -3.0)
    return diagnosed([x], lambda: (x**4).sum() + (x[0] - 1) ** 2, dict(method="L-BFGS-B", options=dict(gtol=60.0)))


@planted("tolerance too large for the loss")
def flowers_in_metres():
    """The problem is ill-conditioned too, but a scale of the loss is what lets the method go on."""
    x = 0.01 * torch.tensor(load_iris().data)
    w, b = parameter(0.0, 0.0, 0.0), parameter(0.0)
    return diagnosed([w, b], lambda: ((x[:, :3] @ w + b - x[:, 3]) ** 2).mean())


@planted("tolerance too large for the loss")
def loose_least_squares():
    b, t = parameter(0.2, 5.0), torch.linspace(0, 3, 20, dtype=torch.float64)
    request = dict(method="trf", ftol=0.1, xtol=0.1, gtol=0.1)
    y = 2 * torch.exp(-0.8 * t)
    return diagnosed([b], lambda: b[0] * torch.exp(-b[1] * t) - y, request, LeastSquaresWrapper)


@planted("badly scaled parameters")
def a_far_start_makes_the_rest_look_small():
    """The loss is 112,124 after 1.7e9; its minimum is 88."""
    x = parameter(*MGH["10 Meyer"].start)
    return diagnosed([x], lambda: MGH["10 Meyer"].loss(x), "L-BFGS-B")


def ill_conditioned_matrix(n, power, seed=0):
    random = np.random.default_rng(seed)
    q, _ = np.linalg.qr(random.standard_normal((n, n)))
    return torch.from_numpy(q @ np.diag(np.logspace(0, power, n)) @ q.T)


@planted("ill-conditioned")
def a_rotated_valley():
    a, x = ill_conditioned_matrix(12, 8), parameter(*[1.0] * 12)
    return diagnosed([x], lambda: (x - 3) @ a @ (x - 3), dict(method="CG", options=dict(maxiter=60)))


@planted("ill-conditioned")
def a_hilbert_matrix():
    n = 14
    h = torch.tensor([[1 / (i + j + 1) for i in range(n)] for j in range(n)], dtype=torch.float64)
    x = parameter(*[0.0] * n)
    target = h @ torch.ones(n, dtype=torch.float64)
    return observed(torch.optim.SGD([x], lr=0.3), lambda: x @ h @ x / 2 - target @ x, 300)


@planted("ill-conditioned")
def a_valley_in_which_a_success_is_far_from_the_minimum():
    """Of the loss, 1e-6 is left, and of the way 80 %."""
    a, x = ill_conditioned_matrix(20, 8), parameter(*[0.0] * 20)
    return diagnosed([x], lambda: 1e-8 * (x - 1) @ a @ (x - 1) / 2)


@planted("badly scaled parameters")
def a_diagonal_that_a_success_hides():
    x, d = parameter(*[0.0] * 20), torch.logspace(0, -8, 20, dtype=torch.float64)
    return diagnosed([x], lambda: (d * (x - 1) ** 2).sum() / 2, "L-BFGS-B")


@planted("ill-conditioned")
def a_hilbert_matrix_by_conjugate_gradients():
    """Its limit is as many iterations as variables, after which conjugate gradients would be done but for rounding."""
    n = 12
    h = torch.tensor([[1 / (i + j + 1) for i in range(n)] for j in range(n)], dtype=torch.float64)
    x, target = parameter(*[0.0] * n), h @ torch.ones(n, dtype=torch.float64)
    request = dict(method="CG", options=dict(maxiter=12, gtol=1e-12))
    return diagnosed([x], lambda: x @ h @ x / 2 - target @ x, request)


@planted("ill-conditioned")
def a_canyon_under_gradient_descent():
    """A condition number of 9,000 is much for steps down the gradient."""
    x, turn = parameter(5.0, 1.0), torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    bends = torch.tensor([1.0, 9e3], dtype=torch.float64)
    return observed(torch.optim.SGD([x], lr=1e-4), lambda: (bends * (turn @ x) ** 2).sum() / 2, 300)


@planted("ill-conditioned")
def a_hundred_rotated_variables():
    """A few products see only a part of the condition number."""
    a, x = ill_conditioned_matrix(100, 8), parameter(*[0.5] * 100)
    request = dict(method="L-BFGS-B", options=dict(maxiter=150))
    return diagnosed([x], lambda: (x - 1) @ a @ (x - 1) / 2e4, request, engine="torch")


@planted("memory too small")
def two_steps_of_torch():
    a, x = ill_conditioned_matrix(40, 4), parameter(*[0.5] * 40)
    optimizer = torch.optim.LBFGS([x], max_iter=1, history_size=2, line_search_fn="strong_wolfe")
    return observed(optimizer, lambda: (x - 1) @ a @ (x - 1) / 2, 80)


@planted("memory too small")
def two_corrections():
    a, x = ill_conditioned_matrix(40, 4), parameter(*[1.0] * 40)
    options = dict(maxcor=2, maxiter=60)
    return diagnosed([x], lambda: (x - 3) @ a @ (x - 3) / 2, dict(method="L-BFGS-B", options=options))


@planted("stopped")
def stopped_by_a_callback():
    x = parameter(-1.2, 1.0)
    return diagnosed([x], lambda: rosenbrock(x), "BFGS", callbacks=[lambda iteration: iteration.index == 6])


@planted("budget too small")
def five_iterations():
    x = parameter(-1.2, 1.0)
    return diagnosed([x], lambda: rosenbrock(x), dict(method="BFGS", options=dict(maxiter=5)))


@planted("budget too small")
def a_network_in_twenty_calls():
    model = network(1, 10, 1)
    x, y = line()
    return diagnosed(model.parameters(), lambda: ((model(x) - y) ** 2).mean(), "L-BFGS-B", max_evaluations=20)


@planted("budget too small")
def a_lbfgs_at_its_own_limit():
    x = parameter(-1.2, 1.0)
    return observed(torch.optim.LBFGS([x], max_iter=8, line_search_fn="strong_wolfe"), lambda: rosenbrock(x), 1)


@planted("unidentifiable parameters")
def a_sum_of_two():
    a, b, c = parameter(1.0), parameter(2.0), parameter(0.0)
    x = torch.linspace(0, 1, 20, dtype=torch.float64)
    closure = lambda: ((a + b + c * x - (3 + 2 * x)) ** 2).mean()  # noqa: E731
    return diagnosed([("a", a), ("b", b), ("c", c)], closure)


@planted("unidentifiable parameters")
def a_product():
    a, b, t = parameter(1.0), parameter(2.0), torch.linspace(0, 1, 20, dtype=torch.float64)
    return diagnosed([("a", a), ("b", b)], lambda: ((a * b * t - 3 * t) ** 2).mean())


@planted("unidentifiable parameters")
def a_column_twice():
    x = torch.randn(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    features = torch.cat([x, x[:, :1]], 1)
    model = torch.nn.Linear(3, 1, dtype=torch.float64)
    y = x @ torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    return diagnosed(model.named_parameters(), lambda: ((model(features) - y) ** 2).mean(), "BFGS")


@planted("unidentifiable parameters")
def a_column_twice_among_thirty():
    x = a_design(80, 29, seed=0)
    x, w = torch.cat([x, x[:, :1] + x[:, 1:2]], 1), parameter(*[0.1] * 30)
    y = x[:, 0] + a_design(80, seed=1)
    return diagnosed([("w", w)], lambda: ((x @ w - y) ** 2).mean(), "L-BFGS-B")


@planted("unidentifiable parameters")
def dummies_and_an_intercept():
    """47 parameters: more than there are products."""
    group, x = torch.arange(120) % 6, a_design(120, 40, seed=0)
    dummies = torch.nn.functional.one_hot(group, 6).double()
    y = x[:, 0] + group + 0.1 * a_design(120, seed=1)
    w, d, c = parameter(*[0.0] * 40), parameter(*[0.0] * 6), parameter(0.0)
    return diagnosed([("w", w), ("d", d), ("c", c)], lambda: ((x @ w + dummies @ d + c - y) ** 2).mean())


@planted("unidentifiable parameters")
def a_rate_beyond_the_data():
    """The curve has its end value at the first point already: NIST BoxBOD from far."""
    b = parameter(*STRD["BoxBOD"].starts[0].tolist())
    return diagnosed([b], lambda: STRD["BoxBOD"].residuals(b), "lm", LeastSquaresWrapper)


@planted("sum of squares")
def a_fit_by_conjugate_gradients():
    """The condition number is large, but the residuals are not linear."""
    t = torch.linspace(0, 4, 40, dtype=torch.float64)
    b = parameter(1.0, 0.1, 1.0, 3.0)
    y = 2 * torch.exp(-0.4 * t) + 1.5 * torch.exp(-0.9 * t)
    closure = lambda: ((b[0] * torch.exp(-b[1] * t) + b[2] * torch.exp(-b[3] * t) - y) ** 2).sum()  # noqa: E731
    return diagnosed([b], closure, dict(method="CG", options=dict(maxiter=120)))


@planted("sum of squares")
def a_slow_curve_fit():
    t = torch.linspace(0, 3, 30, dtype=torch.float64)
    b = parameter(1.0, 0.5, 1.0, 2.5)
    y = 2 * torch.exp(-0.4 * t) + 1.5 * torch.exp(-1.1 * t)
    closure = lambda: ((b[0] * torch.exp(-b[1] * t) + b[2] * torch.exp(-b[3] * t) - y) ** 2).sum()  # noqa: E731
    return observed(torch.optim.SGD([b], lr=0.01), closure, 300)


# Healthy runs


def healthy_minimum(name, function, start, arguments="BFGS", dtype=torch.float64, **keywords):
    def case():
        x = parameter(*start, dtype=dtype)
        return diagnosed([x], lambda: function(x), arguments, **keywords)

    case.__name__ = name
    healthy(case)


def quadratic(x):
    return ((x - 3) ** 2).sum() + 2.5


for method in ("BFGS", "L-BFGS-B", "trust-ncg", "CG", "Nelder-Mead", "Newton-CG", "TNC"):
    healthy_minimum(f"rosenbrock_{method}", rosenbrock, (-1.2, 1.0), dict(method=method, options=dict(maxiter=2000)))
healthy_minimum("quadratic_Powell", quadratic, (1.0, 2.0, 3.0), "Powell")
healthy_minimum("quadratic_float32", quadratic, (1.0, 2.0, 3.0), "CG", dtype=torch.float32)
healthy_minimum("rosenbrock_float32", rosenbrock, (-1.2, 1.0), "L-BFGS-B", dtype=torch.float32)
healthy_minimum("at_the_solution", quadratic, (3.0, 3.0))
healthy_minimum("with_bounds", rosenbrock, (-1.2, 0.3), dict(method="L-BFGS-B", bounds=[(-2, 2), (-2, 0.5)]))
healthy_minimum("log_barrier", lambda x: (x**2).sum() - x.log().sum(), (3.0, 0.1))
healthy_minimum("target", rosenbrock, (-1.2, 1.0), target_loss=1.0)
healthy_minimum("huge_loss", lambda x: 1e8 * quadratic(x), (1.0, 2.0))
healthy_minimum("engine_torch", rosenbrock, (-1.2, 1.0), "SSBroyden")


for method in ("BFGS", "L-BFGS-B", "CG", "Newton-CG", "trust-ncg"):

    def float32_regression(method=method):
        return a_line_and_a_constant(0.0, method)

    float32_regression.__name__ = f"float32_regression_{method}"
    healthy(float32_regression)


@healthy
def float32_newton_whose_search_fails():
    """The products go on after the parameters were in float64."""
    x = parameter(-1.2, 1.0, dtype=torch.float32)
    return diagnosed([x], lambda: 1 + rosenbrock(x), "Newton-CG")


@healthy
def a_float32_loss_that_is_zero():
    x = parameter(-1.2, 1.0, dtype=torch.float32)
    return diagnosed([x], lambda: rosenbrock(x), "CG")


@healthy
def a_penalty_that_makes_all_units_zero():
    model, (x, y) = network(1, 4, 1), line()
    decay = lambda: sum(p.square().sum() for p in model.parameters())  # noqa: E731
    return diagnosed(model.parameters(), lambda: ((model(x) - y) ** 2).mean() + decay())


@healthy
def softmax_regression():
    digits = torch.randn(60, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(3, (60,), generator=torch.Generator().manual_seed(2))
    model = torch.nn.Linear(5, 3, dtype=torch.float64)
    return diagnosed(model.parameters(), lambda: torch.nn.functional.cross_entropy(model(digits), labels), "L-BFGS-B")


@healthy
def softmax_of_a_matrix_from_the_right():
    """Its classes are columns."""
    x, w, b = a_design(60, 5, seed=1), parameter(*[[0.1, 0.2, 0.0]] * 5), parameter(0.0, 0.0, 0.0)
    labels = torch.randint(3, (60,), generator=torch.Generator().manual_seed(2))
    return diagnosed([w, b], lambda: torch.nn.functional.cross_entropy(x @ w + b, labels))


@healthy
def float32_under_a_method_that_has_no_tolerance_of_the_gradient():
    x, w = a_design(120, 5, seed=1).float(), torch.nn.Parameter(0.1 * a_design(5, seed=10).float())
    y = (x[:, 0] + 0.7 * a_design(120, seed=3).float() > 0).float()
    return diagnosed([w], lambda: torch.nn.functional.binary_cross_entropy_with_logits(x @ w, y), "SLSQP")


@healthy
def a_network_with_decay():
    model = network(1, 6, 1)
    x, y = line()
    decay = lambda: 1e-3 * sum(p.square().sum() for p in model.parameters())  # noqa: E731
    return diagnosed(model.parameters(), lambda: ((model(x) - y) ** 2).mean() + decay(), "BFGS")


@healthy
def least_squares():
    b = parameter(1.0, 0.5)
    t = torch.linspace(0, 3, 20, dtype=torch.float64)
    y = 2 * torch.exp(-0.8 * t) + 0.01 * torch.cos(20 * t)
    return diagnosed([b], lambda: b[0] * torch.exp(-b[1] * t) - y, "lm", LeastSquaresWrapper)


@healthy
def constrained():
    x = parameter(0.5, 0.0)
    ring = [Constraint(lambda: x.square().sum(), upper=2)]
    return diagnosed([x], lambda: (x[0] - 2) ** 2 + (x[1] - 1) ** 2, dict(method="SLSQP", constraints=ring))


@healthy
def an_interior_point_by_default_tolerances():
    """It ends some thousandths before the constraint, as trust-constr does."""
    x = parameter(0.0, 0.0)
    half = [Constraint(lambda: x.sum(), upper=2)]
    return diagnosed([x], lambda: (x[0] - 2) ** 2 + (x[1] - 1) ** 2, dict(method="trust-constr", constraints=half))


@healthy
def batches():
    x, y = line(60)
    model = network(1, 4, 1)
    data = [(x[i : i + 20], y[i : i + 20]) for i in (0, 20, 40)]
    decay = lambda: 1e-2 * sum(p.square().sum() for p in model.parameters())  # noqa: E731
    closure = full_batch(lambda batch: ((model(batch[0]) - batch[1]) ** 2).mean(), data, extra=decay)
    return diagnosed(model.parameters(), closure, "BFGS")


@healthy
def torch_lbfgs():
    x = parameter(-1.2, 1.0)
    return observed(torch.optim.LBFGS([x], max_iter=20, line_search_fn="strong_wolfe"), lambda: rosenbrock(x), 20)


@healthy
def a_softplus_network():
    model = network(1, 8, 1, activation=torch.nn.Softplus)
    x, y = line()
    decay = lambda: 1e-3 * sum(p.square().sum() for p in model.parameters())  # noqa: E731
    return diagnosed(model.parameters(), lambda: ((model(x) - y) ** 2).mean() + decay(), "L-BFGS-B")


@healthy
def gallery_rosenbrock():
    problem = PROBLEMS["Rosenbrock"].make()
    return diagnosed(problem.parameters, problem.closure, "trust-exact")


@healthy
def dropout_under_adam():
    """Its steps are done, and the mean loss fell: no more can be measured."""
    model = torch.nn.Sequential(network(1, 10), torch.nn.Tanh(), torch.nn.Dropout(0.2), network(10, 1))
    x, y = line()
    return observed(torch.optim.Adam(model.parameters(), lr=0.01), lambda: ((model(x) - y) ** 2).mean(), 300)


@healthy
def flowers_without_penalty():
    """One class is separable, and a softmax does not see what is added to all classes."""
    data = load_iris()
    x = torch.tensor((data.data - data.data.mean(0)) / data.data.std(0))
    labels, model = torch.tensor(data.target), torch.nn.Linear(4, 3, dtype=torch.float64)
    for each in model.parameters():
        each.data.zero_()
    return diagnosed(model.parameters(), lambda: torch.nn.functional.cross_entropy(model(x), labels), "BFGS")


@healthy
def a_fit_at_its_bound():
    """Differences across the bound are no noise."""
    b, t = parameter(0.5, 0.5), torch.linspace(0, 3, 50, dtype=torch.float64)
    group = dict(params=[b], bounds=(0, 0.9))
    return diagnosed([group], lambda: b[0] * torch.exp(-b[1] * t) - torch.exp(-t), "dogbox", LeastSquaresWrapper)


@healthy
def a_hilbert_matrix_with_success():
    """Its curvatures fall to rounding without a gap: nothing is exactly flat."""
    n = 12
    h = torch.tensor([[1 / (i + j + 1) for i in range(n)] for j in range(n)], dtype=torch.float64)
    x, target = parameter(*[0.0] * n), h @ torch.ones(n, dtype=torch.float64)
    return diagnosed([x], lambda: x @ h @ x / 2 - target @ x, "BFGS")


@healthy
def a_robust_loss():
    b, t = parameter(1.0, 0.5), torch.linspace(0, 3, 20, dtype=torch.float64)
    y = 2 * torch.exp(-0.8 * t)
    y[3] += 1
    request = dict(method="trf", loss="soft_l1")
    return diagnosed([b], lambda: b[0] * torch.exp(-b[1] * t) - y, request, LeastSquaresWrapper)


@healthy
def a_degenerate_minimum():
    problem = PROBLEMS["Powell singular"].make()
    return diagnosed(problem.parameters, problem.closure, "Newton-CG")


@healthy
def weakly_determined_parameters():
    """NIST Bennett5: far from flat, although the curvatures differ by 1e9 in the best scale."""
    b = parameter(*STRD["Bennett5"].starts[1].tolist())
    return diagnosed([b], lambda: STRD["Bennett5"].residuals(b), "lm", LeastSquaresWrapper)


@healthy
def every_variable_at_a_bound():
    x = parameter(0.5, 0.5)
    return diagnosed([x], lambda: ((x - 3) ** 2).sum(), dict(method="L-BFGS-B", bounds=[(0, 1), (0, 1)]))


@healthy
def a_parameter_of_the_constraints_only():
    x = parameter(2.0, 1.0)
    constraints = [Constraint(lambda: x[0] * x[1], lower=1)]
    return diagnosed([x], lambda: x[0] ** 2, dict(method="SLSQP", constraints=constraints, bounds=[(1, 5), (0, 5)]))


@healthy
def a_second_step_from_the_minimum():
    x = parameter(-1.2, 1.0)
    optimizer = MinimizeWrapper([x], "BFGS")
    with warnings.catch_warnings(action="ignore"):
        for _ in range(2):
            optimizer.step(lambda: rosenbrock(x))
    return optimizer.diagnose(lambda: rosenbrock(x))


@healthy
def a_kink_reached_without_gradients():
    x, a = parameter(1.0, -2.0), torch.tensor([0.3, 0.1], dtype=torch.float64)
    return diagnosed([x], lambda: (x - a).abs().sum(), "Nelder-Mead")


@healthy
def a_wrong_gradient_that_is_not_used():
    x = parameter(-1.2, 1.0)
    return diagnosed([x], lambda: rosenbrock(torch.stack([x[0].detach(), x[1]])) + 0 * x.sum(), "Nelder-Mead")
