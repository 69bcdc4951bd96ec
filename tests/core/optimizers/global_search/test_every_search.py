"""All six wrappers: what holds for each of them."""

import gc
import math
import weakref

import numpy as np
import pytest
import torch

import torchmin_nb
from tests.core.optimizers.global_search.searches import (
    EACH,
    EACH_BOXED,
    RASTRIGIN,
    X0,
    Loss,
    ackley,
    bowl,
    himmelblau,
    holed,
    numpy_rastrigin,
    optimizer,
    rastrigin,
    run,
    short,
)
from torchmin_nb import GLOBAL_METHODS, Constraint, MinimizeWrapper
from torchmin_nb.errors import (
    ArgumentTypeError,
    NonFiniteStartError,
    StartWarning,
    TorchminError,
)


def eggholder(p):
    x, y = p[0], p[1] + 47
    return -y * (x / 2 + y).abs().sqrt().sin() - x * (x - y).abs().sqrt().sin()


EGGS = (-512.0, 512.0)
EGGHOLDER = (-959.6406627, [512.0, 404.231805])


@EACH
@pytest.mark.parametrize(("function", "x0"), [(rastrigin, [2.2, -1.3]), (ackley, [1.9, -0.8])])
def test_finds_the_global_minimum(name, function, x0):
    kwargs = {
        "basinhopping": dict(niter=60, rng=3, stepsize=1.0),
        "dual_annealing": dict(maxiter=150, rng=0, bounds=RASTRIGIN),
        "shgo": dict(n=64, iters=3, sampling_method="sobol", bounds=RASTRIGIN),
        "differential_evolution": dict(rng=0, bounds=RASTRIGIN),
        "direct": dict(bounds=(-5.0, 5.5)),
        "brute": dict(ranges=RASTRIGIN, Ns=41),
    }
    made = run(name, Loss(function, x0), kwargs[name])
    assert made.result.fun == pytest.approx(0, abs=1e-5)
    assert made.result.x == pytest.approx([0, 0], abs=1e-5)
    assert made.result.success


@pytest.mark.parametrize(
    ("name", "kwargs", "tolerance"),
    [
        ("basinhopping", dict(niter=150, rng=2, stepsize=200.0, T=300.0), 1e-6),
        ("dual_annealing", dict(maxiter=1000, rng=2), 1e-6),
        ("shgo", dict(n=64, iters=3, sampling_method="sobol"), 1e-6),
        ("differential_evolution", dict(rng=2, popsize=40, tol=1e-6), 1e-6),
        ("direct", dict(locally_biased=False, maxfun=6000), 8),  # never evaluates the edge of the box
        ("brute", dict(Ns=40), 1e-6),
    ],
)
def test_finds_the_eggholders_minimum_in_the_corner(name, kwargs, tolerance):
    loss = Loss(eggholder, [0.0, 0.0])
    groups = [{"params": [loss.x], "bounds": EGGS}]
    made = optimizer(name, groups, kwargs)
    made.step(loss)
    assert made.result.fun == pytest.approx(EGGHOLDER[0], abs=tolerance)
    if name != "direct":
        assert made.result.x == pytest.approx(EGGHOLDER[1], abs=1e-3)
    assert loss.x.tolist() == made.result.x.tolist()
    assert (np.abs(made.result.x) <= 512).all()


@EACH
def test_the_end_is_the_best_point_seen(name):
    loss = Loss(rastrigin, [2.2, -1.3])
    made = run(name, loss, start_check=False)
    assert made.result.fun == loss.lowest
    assert float(rastrigin(loss.x.detach())) == loss.lowest
    assert made.history.totals.nfev == loss.calls
    assert made.history.final_loss == loss.lowest


@EACH_BOXED
def test_a_start_that_nothing_beats_is_the_end(name):
    loss = Loss(lambda x: (x - 0.123456).abs().sqrt().sum(), [0.123456, 0.123456])
    kwargs = short(name, **({"finish": None} if name == "brute" else {}))
    made = run(name, loss, kwargs)
    assert made.result.fun == 0
    assert loss.x.tolist() == [0.123456, 0.123456]


@pytest.mark.parametrize("name", [name for name, spec in GLOBAL_METHODS.items() if spec.stochastic])
def test_the_same_seed_gives_the_same_run(name):
    rng = np.random.default_rng
    ends = [run(name, Loss(rastrigin, X0), short(name, rng=seed)).result.x for seed in (4, rng(4), 4)]
    assert ends[0].tolist() == ends[1].tolist() == ends[2].tolist()
    legacy = {**short(name), "seed": 4}
    del legacy["rng"]
    run(name, Loss(rastrigin, X0), legacy)


@EACH
def test_the_first_iteration_is_the_start(name):
    heard = []
    made = run(name, Loss(rastrigin, X0), callbacks=heard.append)
    assert heard == list(made.history)
    assert heard[0].index == 0
    assert heard[0].loss == pytest.approx(numpy_rastrigin(np.array(X0)))
    assert heard[0].nfev == 1
    assert heard[0].step_norm is None


@EACH
def test_iterations_tell_the_best_so_far(name):
    made = run(name, Loss(rastrigin, X0), keep_parameters=True, keep_evaluations=True)
    history = made.history
    assert len(history) > 3
    assert (np.diff(history.loss) <= 0).all()
    assert (np.diff(history.nfev) >= 0).all()
    assert history.loss[-1] == made.result.fun
    assert history.parameters[-1].tolist() == made.result.x.tolist()
    for iteration, x in zip(history, history.parameters, strict=True):
        assert iteration.loss == pytest.approx(numpy_rastrigin(x), abs=1e-9)
    assert [evaluation.index for evaluation in history.evaluations] == list(range(history.totals.nfev))
    assert history == type(history).from_json(history.to_json())


METRICS = {
    "basinhopping": {"candidate", "minima"},
    "dual_annealing": {"temperature", "minima"},
    "shgo": {"candidate", "sampled", "minima"},
    "differential_evolution": {"generation", "convergence", "population_spread", "minima"},
    "direct": set(),
    "brute": {"searched"},  # minima too, where the descent is an improvement
}


@EACH
def test_iterations_carry_what_the_method_reports(name):
    made = run(name, Loss(rastrigin, X0))
    assert set(made.history.metrics) == METRICS[name]
    counts = [it.accepted is not None for it in made.history]
    assert sum(counts) == (13 if name == "basinhopping" else 0)


def test_metrics_of_the_closure_are_those_of_the_best_point():
    loss = Loss(rastrigin, X0)
    made = optimizer("basinhopping", [loss.x], short("basinhopping"))

    def closure():
        made.record(first=loss.x[0])
        return loss()

    made.step(closure)
    assert made.history[-1].metrics["first"] == made.result.x[0]
    assert "candidate" in made.history[-1].metrics


@pytest.mark.parametrize("name", ["basinhopping", "dual_annealing", "differential_evolution", "direct"])
def test_scipys_own_callback_is_called_as_scipy_does(name):
    seen = []
    made = run(name, Loss(rastrigin, X0), short(name, callback=lambda *args, **kwargs: seen.append((args, kwargs))))
    assert seen
    expected = {"basinhopping": 3, "dual_annealing": 3, "differential_evolution": 1, "direct": 1}
    assert {len(args) for args, _ in seen} == {expected[name]}
    assert made.history[-1].loss == made.result.fun


@pytest.mark.parametrize("form", ["no_grad", "float", "backward"])
@EACH
def test_forms_of_closure(name, form):
    loss = Loss(himmelblau, [1.0, 1.0])

    def closure():
        if form == "backward":
            loss.x.grad = None
            value = loss()
            value.backward()
            return value
        with torch.no_grad():
            return loss() if form == "no_grad" else float(loss())

    kwargs = short(name, bounds=(-5.0, 5.0))
    made = optimizer(name, [loss.x], kwargs, start_check=False)
    made.step(closure)
    differentiable = form == "backward"
    assert made.result.fun == pytest.approx(0, abs=1e-6)
    assert made.history.totals.nfev == loss.calls
    assert (made.history.totals.njev > 0) == differentiable


@pytest.mark.parametrize("value", [math.nan, math.inf])
@EACH_BOXED
def test_the_start_need_not_be_finite(name, value):
    loss = Loss(holed(lambda x: bowl(x - 0.9), value), [-1.0, 1.0])
    made = run(name, loss, short(name, bounds=(-2.0, 3.0), **patient(name)))
    assert not math.isfinite(made.history[0].loss)
    assert made.result.fun == pytest.approx(0, abs=1e-2)
    assert made.result.x[0] > 0.5
    assert math.isfinite(made.history[-1].loss)


def patient(name):
    return {"shgo": dict(n=64), "dual_annealing": dict(maxiter=100), "direct": dict(maxiter=200)}.get(name, {})


@EACH_BOXED
def test_nowhere_finite(name):
    loss = Loss(lambda x: x.sum() * math.nan, [1.0, 1.0])
    with pytest.raises(NonFiniteStartError, match=r"all \d+ evaluated points"):
        run(name, loss)
    assert loss.x.tolist() == [1.0, 1.0]


def test_a_gradient_that_is_nan_at_the_best_start_does_not_hide_it():
    made = run("direct", Loss(ackley, [0.0, 0.0]), dict(bounds=(-4.0, 5.5), maxiter=5))
    assert made.result.fun == pytest.approx(0, abs=1e-12)


@EACH
def test_float32(name):
    loss = Loss(himmelblau, [1.0, 1.0], dtype=torch.float32)
    made = run(name, loss, short(name, bounds=(-5.0, 5.0)))
    assert made.result.fun == pytest.approx(0, abs=1e-5)
    assert loss.x.dtype == torch.float32
    assert made.result.x.dtype == np.float64


@pytest.mark.parametrize("name", ["basinhopping", "dual_annealing", "shgo"])
def test_float32_without_gradients(name):
    loss = Loss(himmelblau, [1.0, 1.0], dtype=torch.float32)
    made = optimizer(name, [loss.x], short(name, bounds=(-5.0, 5.0)))
    made.step(lambda: float(loss().detach()))
    assert made.result.fun == pytest.approx(0, abs=1e-3)


@EACH
def test_fixed_entries_and_scales(name):
    loss = Loss(lambda p: himmelblau(p[:2]) + p[2] ** 2, [1.0, 1.0, 3.0])
    low, high = torch.tensor([-5.0, -5.0, 3.0]), torch.tensor([5.0, 5.0, 3.0])
    kwargs = short(name)
    kwargs.pop("bounds", None)
    made = optimizer(name, [{"params": [loss.x], "bounds": (low, high), "scale": 2.0}], kwargs)
    made.step(loss)
    assert made.result.fun == pytest.approx(9, abs=1e-3)
    assert made.result.x[2] == 3
    assert loss.x[2] == 3
    assert all(x[2] == 3 for _, x in made.result.get("minima", ()))
    for rows in (made.result.get("population", ()), made.result.get("xl", ())):
        assert all(x[2] == 3 for x in rows)
        assert not len(rows) or np.abs(rows - made.result.x).max(1).min() < 1e-2
    if name == "brute":
        assert made.result.grid.shape == (3, 15, 15)
        assert made.result.grid[:, 0, -1].tolist() == [-5, 5, 3]
    if name == "basinhopping":
        assert made.result.lowest_optimization_result.x == pytest.approx(made.result.x)


def test_all_fixed():
    loss = Loss(bowl, [0.0])
    made = optimizer("direct", [{"params": [loss.x], "bounds": (1.0, 1.0)}])
    made.step(loss)
    assert made.result.x.tolist() == [1.0]
    assert made.result.success


@EACH_BOXED
def test_a_start_outside_the_bounds_is_moved_inside(name):
    loss = Loss(himmelblau, [9.0, 9.0])
    with pytest.warns(StartWarning, match="2 starting values"):
        made = run(name, loss, short(name, bounds=(-5.0, 5.0)))
    assert made.history[0].loss == float(himmelblau(torch.tensor([5.0, 5.0])))


@pytest.mark.parametrize("name", ["shgo", "differential_evolution"])
def test_constraints(name):
    """Rosenbrock within the unit disc: More's (0.7864, 0.6177)."""
    disc = Constraint(lambda x: x.square().sum(), upper=1.0)
    loss = Loss(lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2, [0.0, 0.0])
    made = run(name, loss, short(name, bounds=(-1.5, 1.5), constraints=disc))
    assert made.result.x == pytest.approx([0.7864, 0.6177], abs=1e-3)


@EACH
def test_a_callback_stops_at_the_best_point(name):
    loss = Loss(rastrigin, X0)
    made = run(name, loss, callbacks=lambda iteration: iteration.index == 2)
    assert made.result.message == "Stopped by a callback."
    assert not made.result.success
    assert len(made.history) == 3
    assert made.result.fun == loss.lowest == float(rastrigin(loss.x.detach()))


@EACH
@pytest.mark.parametrize("budget", [1, 2, 17])
def test_the_budget_of_closure_calls_is_kept(name, budget):
    loss = Loss(rastrigin, X0)
    made = run(name, loss, max_evaluations=budget, start_check=False)
    assert loss.calls == budget == made.history.totals.nfev
    assert "max_evaluations" in made.result.message
    assert made.result.fun == loss.lowest


@EACH
def test_a_run_in_a_worker_thread(name):
    loss = Loss(rastrigin, X0)
    made = optimizer(name, [loss.x], short(name))
    running = made.start(loss)
    running.wait()
    assert made.result.fun == loss.lowest
    assert made.result.fun == run(name, Loss(rastrigin, X0)).result.fun


@EACH
def test_the_other_budgets(name):
    made = run(name, Loss(rastrigin, X0), target_loss=5.0)
    assert made.result.success
    assert made.result.fun <= 5
    made = run(name, Loss(rastrigin, X0), max_seconds=1e-9)
    assert "max_seconds" in made.result.message


@EACH
@pytest.mark.parametrize("at", [0, 9])
def test_stop_from_the_closure(name, at):
    loss = Loss(rastrigin, X0, at=at)
    made = optimizer(name, [loss.x], short(name))
    loss.do = made.stop
    made.step(loss)
    assert loss.calls == at + 1
    assert made.result.message == "Stopped on request."


class OopsError(ValueError):
    pass


@EACH
@pytest.mark.parametrize("error", [OopsError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [0, 9])
def test_what_the_closure_raises_comes_out_as_it_is(name, error, at):
    def fail():
        raise error("here")

    loss = Loss(rastrigin, X0, at=at, do=fail)
    made = optimizer(name, [loss.x], short(name))
    with pytest.raises(error, match="here"):
        made.step(loss)
    assert not made.result.success
    if at:
        assert made.result.fun == loss.lowest == float(rastrigin(loss.x.detach()))
    else:
        assert loss.x.tolist() == X0
    loss.at = None
    made.step(loss)
    assert made.result.message
    assert len(made.history) > 2


@EACH
def test_what_a_callback_raises_comes_out_as_it_is(name):
    def fail(iteration):
        if iteration.index == 2:
            raise OopsError("there")

    with pytest.raises(OopsError, match="there"):
        run(name, Loss(rastrigin, X0), callbacks=fail)


def test_what_the_users_own_functions_raise_comes_out_as_it_is():
    def fail(*args, **kwargs):
        raise OopsError("mine")

    for name, keyword in (("basinhopping", "take_step"), ("basinhopping", "callback"), ("direct", "callback")):
        with pytest.raises(OopsError, match="mine"):
            run(name, Loss(rastrigin, X0), short(name, **{keyword: fail}))


@EACH
def test_a_run_needs_a_closure(name):
    made = optimizer(name, [Loss(bowl, [0.0, 0.0]).x], short(name))
    with pytest.raises(ArgumentTypeError, match="closure"):
        made.step()
    assert name.replace("_", "") in type(made).__name__.lower().replace("wrapper", "") or name == "brute"
    assert repr(made).startswith(f"{type(made).__name__}({made.spec.name!r}, options=dict(")
    assert "parameters=2" in repr(made)


def test_integers_stay_integers():
    kwargs = short("differential_evolution", bounds=(-4.0, 4.0), integrality=[True, False])
    made = run("differential_evolution", Loss(lambda x: bowl(x - 0.9), [1.2, 1.2]), kwargs)
    assert made.result.x == pytest.approx([1.0, 1.2], abs=1e-4)
    assert made.result.x[0] == 1


def test_disp_prints_the_summary(capsys):
    run("brute", Loss(bowl, [0.0]), dict(bounds=(-1, 1), disp=True))
    assert "Current function value" in capsys.readouterr().out


def test_errors_are_of_the_family():
    with pytest.raises(TorchminError):
        torchmin_nb.DirectWrapper([Loss(bowl, [0.0]).x])
    assert not hasattr(MinimizeWrapper, "spec")


@EACH
def test_no_cycle_keeps_the_parameters(name):
    """Some of SciPy's solvers are cycles of objects: they must not hold on to what they called."""
    run(name, Loss(rastrigin, X0))  # imports, which may leave cycles of their own
    gc.collect()
    gc.disable()
    try:
        loss = Loss(rastrigin, X0)
        made = run(name, loss)
        alive = weakref.ref(loss.x)
        del loss, made
        assert alive() is None
    finally:
        gc.enable()


@EACH
def test_minimal_use(name):
    loss = Loss(bowl, [0.1, 0.1])
    kwargs = None if name == "basinhopping" else dict(bounds=(-1.0, 1.0))
    optimizer(name, [loss.x], kwargs, max_evaluations=3000).step(loss)
    assert loss.x.detach().numpy() == pytest.approx([0.3, 0.3], abs=1e-3)
