"""Every method × precision × form of the closure: the minimum is found, and by the same run whatever the form."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from scipy.optimize import OptimizeResult

from tests.core.problems import PROBLEMS
from torchmin_nb import METHODS, MinimizeWrapper, minimize

DTYPES = {"float32": torch.float32, "float64": torch.float64}
GRADIENT_FREE = [name for name, spec in METHODS.items() if spec.gradient == "none"]
SLOW_IN_VALLEYS = {"COBYLA"}  # linear models creep along Rosenbrock's: thousands of calls


# Problems, each a sum of two losses of one tensor, so that it can be backpropagated in two parts


class Model(torch.nn.Module):
    """One tensor as the parameters; `parts` are the losses that add up."""

    def __init__(self, problem, dtype):
        super().__init__()
        self.x = torch.nn.Parameter(torch.tensor(PROBLEMS[problem].x0, dtype=dtype))
        self.parts = PARTS[problem]


def valley(p):
    x, y = p.unbind()
    return 100 * (y - x**2) ** 2


def offset(p):
    return (1 - p[0]) ** 2


def left(p):
    x, y = p.unbind()
    return (x**2 + y - 11) ** 2


def right(p):
    x, y = p.unbind()
    return (x + y**2 - 7) ** 2


PARTS = {"Rosenbrock 2": (valley, offset), "Himmelblau": (left, right)}


# The forms of the closure


def idiom(model, optimizer):
    def closure():
        optimizer.zero_grad()
        loss = sum(part(model.x) for part in model.parts)
        loss.backward()
        return loss

    return closure


def loss_only(model, optimizer):
    return lambda: sum(part(model.x) for part in model.parts)


def several_backwards(model, optimizer):
    def closure():
        optimizer.zero_grad()
        total = 0.0
        for part in model.parts:
            loss = part(model.x)
            loss.backward()
            total = total + loss.detach()
        return total

    return closure


def closure_object(model, optimizer):
    class Closure:
        def __init__(self, model):
            self.model = model

        @staticmethod
        def loss(model):
            return sum(part(model.x) for part in model.parts)

        def __call__(self):
            optimizer.zero_grad()
            loss = self.loss(self.model)
            loss.backward()
            return loss

    return Closure(model)


def without_gradients(model, optimizer):
    def closure():
        with torch.no_grad():
            return sum(part(model.x) for part in model.parts)

    return closure


def plain_number(model, optimizer):
    return lambda: sum(part(model.x) for part in model.parts).item()


FORMS = {form.__name__: form for form in (idiom, loss_only, several_backwards, closure_object)}
VALUE_FORMS = {form.__name__: form for form in (without_gradients, plain_number)}

CASES = [
    (method, problem)
    for method in METHODS
    for problem in PARTS
    if (method, problem) not in {(slow, "Rosenbrock 2") for slow in SLOW_IN_VALLEYS}
]
CASE_IDS = [f"{method}-{problem}" for method, problem in CASES]


@cache
def run(method, problem, dtype, form):
    """The optimizer and the model after a run with default options."""
    model = Model(problem, DTYPES[dtype])
    optimizer = MinimizeWrapper(model.parameters(), method)
    loss = optimizer.step((FORMS | VALUE_FORMS)[form](model, optimizer))
    return optimizer, model, loss


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("method", "problem"), CASES, ids=CASE_IDS)
def test_the_known_minimum_is_found(method, problem, dtype):
    optimizer, model, loss = run(method, problem, dtype, "idiom")
    at_the_end = sum(part(model.x) for part in model.parts).item()
    assert loss.item() == pytest.approx(at_the_end, rel=1e-5, abs=1e-12)
    assert loss.dtype is model.x.dtype is DTYPES[dtype]
    assert loss.shape == ()
    assert loss.item() < 1e-4
    assert PROBLEMS[problem].distance(model.x.detach()) < 2e-2
    np.testing.assert_allclose(model.x.detach(), optimizer.result.x, rtol=1e-6)
    assert optimizer.history[0].loss == pytest.approx(PROBLEMS[problem].f(PROBLEMS[problem].x0), rel=1e-6)


def assert_same_run(one, other):
    (a, model_a, loss_a), (b, model_b, loss_b) = one, other
    assert a.history.loss.tolist() == b.history.loss.tolist()
    for name in ("nit", "nfev", "njev", "nhev", "status", "message"):
        assert a.result[name] == b.result[name], name
    assert a.result.x.tolist() == b.result.x.tolist()
    assert torch.equal(model_a.x, model_b.x)
    assert torch.equal(loss_a, loss_b)


@pytest.mark.parametrize("form", [name for name in FORMS if name != "idiom"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("method", "problem"), CASES, ids=CASE_IDS)
@pytest.mark.crossed
def test_every_form_of_the_closure_makes_the_same_run(method, problem, dtype, form):
    assert_same_run(run(method, problem, dtype, "idiom"), run(method, problem, dtype, form))


@pytest.mark.parametrize("form", VALUE_FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", GRADIENT_FREE)
def test_gradient_free_methods_need_no_graph(method, dtype, form):
    assert_same_run(run(method, "Himmelblau", dtype, "idiom"), run(method, "Himmelblau", dtype, form))


# A closure that differentiates for itself, as that of a physics-informed network


def residual_closures(p, optimizer):
    """u'' + u' + u = f on [-2, 2] with u(0) = 1, for u = p0 + p1·t + p2·t²; solved by p = (1, 2, 0.5)."""
    t = torch.linspace(-2, 2, 12, dtype=p.dtype).requires_grad_()
    f = 1 + 2 * t.detach() + 0.5 * t.detach() ** 2 + (2 + t.detach()) + 1

    def residual_loss():
        u = p[0] + p[1] * t + p[2] * t**2
        (du,) = torch.autograd.grad(u.sum(), t, create_graph=True)
        (ddu,) = torch.autograd.grad(du.sum(), t, create_graph=True)
        return ((ddu + du + u - f) ** 2).mean() + (p[0] - 1) ** 2

    def backward():
        optimizer.zero_grad()
        loss = residual_loss()
        loss.backward()
        return loss

    return {"loss_only": residual_loss, "idiom": backward}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_a_closure_may_call_autograd_itself(method, dtype):
    losses = {}
    for form in ("loss_only", "idiom"):
        p = torch.nn.Parameter(torch.zeros(3, dtype=DTYPES[dtype]))
        optimizer = MinimizeWrapper([p], method)
        loss = optimizer.step(residual_closures(p, optimizer)[form])
        assert loss.item() < 1e-4
        assert torch.linalg.norm(p.detach().double() - torch.tensor([1.0, 2.0, 0.5])) < 5e-2
        losses[form] = optimizer.history.loss.tolist()
    assert losses["loss_only"] == losses["idiom"]


# Options that every method understands


def rosenbrock_run(minimizer_args, **kwargs):
    model = Model("Rosenbrock 2", torch.float64)
    optimizer = MinimizeWrapper(model.parameters(), minimizer_args, **kwargs)
    optimizer.step(idiom(model, optimizer))
    return optimizer


@pytest.mark.parametrize("maxiter", [1, 2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_understands_maxiter(method, maxiter):
    if METHODS[method].options["maxiter"].help.startswith("Largest number of closure calls"):
        maxiter += 4  # COBYLA needs n + 1 for its simplex
    optimizer = rosenbrock_run(dict(method=method, options={"maxiter": maxiter}))
    assert 1 <= optimizer.result.nit <= maxiter
    assert not optimizer.result.success
    assert optimizer.result.fun <= optimizer.history[0].loss


@pytest.mark.parametrize("method", METHODS)
def test_every_method_understands_disp(method, capsys):
    maxiter = 6
    silent = rosenbrock_run(dict(method=method, options={"maxiter": maxiter, "disp": False}))
    assert capsys.readouterr() == ("", "")
    result = rosenbrock_run(dict(method=method, options={"maxiter": maxiter, "disp": True})).result
    assert silent.result.nit == result.nit
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        result.message,
        f"         Current function value: {result.fun:.6f}",
        f"         Iterations: {result.nit}",
        f"         Function evaluations: {result.nfev}",
        f"         Gradient evaluations: {result.njev}",
        f"         Hessian evaluations: {result.nhev}",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_a_result_has_every_field(method):
    result = run(method, "Himmelblau", "float64", "idiom")[0].result
    assert isinstance(result, OptimizeResult)
    assert {name: type(result[name]) for name in ("nit", "nfev", "njev", "nhev", "status")} == dict.fromkeys(
        ("nit", "nfev", "njev", "nhev", "status"), int
    )
    assert type(result.success) is bool
    assert type(result.message) is str
    assert type(result.fun) is float
    assert result.x.dtype == np.float64
    assert result.success
    assert result.message
    assert result.nit > 1
    assert result.nfev > 1
    assert (result.njev > 0) == (METHODS[method].gradient != "none")
    assert (result.nhev > 0) == (METHODS[method].curvature != "none")


@pytest.mark.parametrize("method", METHODS)
def test_a_bare_name_in_any_case_is_enough(method):
    reference = run(method, "Himmelblau", "float64", "idiom")
    for spelled in (method.upper(), dict(method=method.lower())):
        model = Model("Himmelblau", torch.float64)
        optimizer = MinimizeWrapper(model.parameters(), spelled)
        loss = optimizer.step(idiom(model, optimizer))
        assert_same_run(reference, (optimizer, model, loss))


@pytest.mark.parametrize("method", METHODS)
def test_minimizer_args_are_not_changed(method):
    args = dict(method=method.lower(), options={"maxiter": 5, "disp": False}, tol=1e-3)
    before = copy.deepcopy(args)
    rosenbrock_run(args)
    assert args == before
    assert list(args["options"]) == ["maxiter", "disp"]


def test_no_method_named_means_scipys_default():
    assert rosenbrock_run({}).history.method == "BFGS"


def test_res_is_result():
    optimizer = rosenbrock_run("CG")
    assert optimizer.res is optimizer.result is not None


def test_the_call_of_the_first_page(capsys):
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    inputs = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [2.0, 1.0]])
    targets = inputs @ torch.tensor([[2.0], [-1.0]]) + 0.5
    # fmt: off
    optimizer = MinimizeWrapper(model.parameters(), dict(method='CG', options={'disp': True, 'maxiter': 100}))
    # fmt: on

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    assert loss.item() < 1e-6
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[2.0, -1.0]]), atol=1e-2, rtol=0)
    torch.testing.assert_close(model.bias.detach(), torch.tensor([0.5]), atol=1e-2, rtol=0)
    assert "Current function value: 0.000000" in capsys.readouterr().out


# A solver of the user's


def newton(fun, x0, args=(), jac=None, hess=None, hessp=None, callback=None, steps=20, **ignored):
    """Newton's method by products and by the Hessian, in turns; stops where the gradient is small."""
    x = np.array(x0)
    for k in range(steps):
        hessian = hess(x)
        by_products = np.stack([hessp(x, unit) for unit in np.eye(x.size)])
        np.testing.assert_allclose(by_products, hessian, rtol=1e-10, atol=1e-10)
        x = x - np.linalg.solve(hessian if k % 2 else by_products, jac(x))
        value = fun(x)
        callback(x)
        if np.linalg.norm(jac(x)) < 1e-10:
            break
    return OptimizeResult(x=x, fun=value, nit=k + 1, success=True, status=0, message="Newton is content.")


def test_a_callable_method_gets_all_derivatives_and_makes_the_same_events():
    seen = []
    optimizer = rosenbrock_run(dict(method=newton), callbacks=seen.append)
    result, history = optimizer.result, optimizer.history
    np.testing.assert_allclose(result.x, [1, 1], atol=1e-9)
    assert result.message == "Newton is content."
    assert result.success
    assert history.method == "newton"
    assert list(history) == seen
    assert [iteration.index for iteration in seen] == list(range(result.nit + 1))
    losses = history.loss
    assert losses[0] == pytest.approx(24.2)
    assert losses[-1] == result.fun < 1e-18
    assert np.isfinite(history.grad_norm).all()
    assert (history.step_norm[1:] > 0).all()
    assert result.nfev == result.nit
    assert result.njev >= result.nit
    assert result.nhev > 0
    assert history[-1].nhev == result.nit
    assert all(iteration.trust_radius is None for iteration in history)


def test_a_callable_method_gets_its_options():
    assert rosenbrock_run(dict(method=newton, options={"steps": 2})).result.nit == 2


def test_a_callback_stops_a_callable_method():
    optimizer = rosenbrock_run(dict(method=newton), callbacks=lambda iteration: iteration.index == 2)
    assert not optimizer.result.success
    assert optimizer.result.status == 99
    assert len(optimizer.history) == 3


def test_a_callable_method_need_not_fill_in_its_result():
    def only_looks(fun, x0, args=(), callback=None, **ignored):
        best = min((x0, x0 + 0.1, x0 - 0.1), key=fun)
        callback(best)
        return OptimizeResult(x=best)

    optimizer = rosenbrock_run(only_looks)
    assert optimizer.history.method == "only_looks"
    assert optimizer.result.fun == pytest.approx(PROBLEMS["Rosenbrock 2"].f(optimizer.result.x))
    assert optimizer.result.fun < optimizer.history[0].loss
    assert optimizer.result.nit == 1
    assert optimizer.result.nfev >= 3
    assert optimizer.result.nhev == 0


# minimize(fun, x0)


def quadratic(x):
    return ((x - torch.tensor([3.0, -1.0], dtype=x.dtype)) ** 2).sum() + 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_minimize_over_a_tensor(method, dtype):
    x0 = torch.tensor([0.5, 1.0], dtype=DTYPES[dtype])
    result = minimize(quadratic, x0, method)
    assert isinstance(result.x, torch.Tensor)
    assert result.x.dtype is DTYPES[dtype]
    assert not result.x.requires_grad
    torch.testing.assert_close(result.x.double(), torch.tensor([3.0, -1.0]).double(), atol=1e-2, rtol=0)
    assert result.fun == pytest.approx(1, abs=1e-4)
    assert x0.tolist() == [0.5, 1.0]
    assert result.history.method == method
    assert result.history.final_loss == result.fun


@pytest.mark.parametrize("method", METHODS)
def test_minimize_over_a_dict(method):
    start = {"w": torch.zeros(2, dtype=torch.float64), "b": torch.tensor(0.5, dtype=torch.float64)}
    result = minimize(lambda p: quadratic(p["w"]) + (p["b"] - 2) ** 2, start, method=method)
    assert list(result.x) == ["w", "b"]
    assert result.x["w"].shape == (2,)
    assert result.x["b"].shape == ()
    torch.testing.assert_close(result.x["w"], torch.tensor([3.0, -1.0]).double(), atol=1e-2, rtol=0)
    torch.testing.assert_close(result.x["b"], torch.tensor(2.0).double(), atol=1e-2, rtol=0)
    assert start["b"].item() == 0.5


@pytest.mark.parametrize("x0", [[0, 1], (0.0, 1.0), np.array([0.0, 1.0])], ids=["list", "tuple", "array"])
def test_minimize_over_numbers(x0):
    result = minimize(quadratic, x0, "BFGS", options={"gtol": 1e-9})
    assert result.x.dtype is torch.float64
    torch.testing.assert_close(result.x, torch.tensor([3.0, -1.0]).double(), atol=1e-8, rtol=0)


def test_minimize_over_one_number():
    assert minimize(lambda x: (x - 2) ** 2, 0.0).x.item() == pytest.approx(2)
