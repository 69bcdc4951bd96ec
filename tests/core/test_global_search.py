"""The global optimizers: known minima, SciPy's own runs, events, endings, populations and refusals."""

import gc
import inspect
import math
import weakref

import numpy as np
import pytest
import scipy.optimize
import torch

import torchmin_nb
from torchmin_nb import GLOBAL_METHODS, Constraint, MinimizeWrapper
from torchmin_nb.errors import (
    ArgumentError,
    ArgumentTypeError,
    ClosureError,
    InconsistentClosureError,
    MemoryBudgetError,
    NonFiniteStartError,
    StartWarning,
    TorchminError,
    UnknownMethodError,
    UnknownOptionError,
)

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
TOGETHER = ("shgo", "differential_evolution", "brute")
EACH = pytest.mark.parametrize("name", GLOBAL_METHODS)
EACH_BOXED = pytest.mark.parametrize("name", BOXED)


# Problems: a torch loss of a tensor (n,), the box, and the minimum in it


def rastrigin(x):
    return 10 * x.numel() + (x**2 - 10 * torch.cos(2 * math.pi * x)).sum()


def ackley(x):
    return -20 * torch.exp(-0.2 * x.square().mean().sqrt()) - torch.cos(2 * math.pi * x).mean().exp() + 20 + math.e


def eggholder(p):
    x, y = p[0], p[1] + 47
    return -y * (x / 2 + y).abs().sqrt().sin() - x * (x - y).abs().sqrt().sin()


def himmelblau(p):
    x, y = p
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def bowl(x):
    return ((x - 0.3) ** 2).sum()


RASTRIGIN = (-5.12, 5.12)
EGGS = (-512.0, 512.0)
EGGHOLDER = (-959.6406627, [512.0, 404.231805])


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
    rows = GLOBAL_METHODS[name].kwargs
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


# The table


def test_the_table_names_scipys_functions():
    assert set(GLOBAL_METHODS) == set(WRAPPERS)
    for name, wrapper in WRAPPERS.items():
        assert wrapper.spec is GLOBAL_METHODS[name]
        assert callable(getattr(scipy.optimize, name))
        assert GLOBAL_METHODS[name].reference.endswith(f"scipy.optimize.{name}.html")


# What torchmin_nb supplies itself, and why a caller cannot.
SUPPLIED = {
    "func": "the closure",
    "args": "closures take none",
    "minimizer_kwargs": "minimizer_args",
    "workers": "the closure reads one set of parameters",
    "full_output": "the result is always whole",
}
NOT_TAKEN = {
    ("basinhopping", "x0"): "the parameters' values are the start",
}
# Defaults that are not SciPy's, and why.
OTHER_DEFAULTS = {
    ("dual_annealing", "x0"): "the parameters have values to start from",
    ("differential_evolution", "x0"): "the parameters have values to start from",
    ("differential_evolution", "vectorized"): "on where vmap can",
    ("differential_evolution", "updating"): "follows vectorized",
    ("brute", "finish"): "a gradient method in place of Nelder-Mead",
}


@EACH
def test_the_keywords_are_scipys(name):
    known = set(inspect.signature(getattr(scipy.optimize, name)).parameters) - set(SUPPLIED)
    known -= {keyword for method, keyword in NOT_TAKEN if method == name}
    spec = GLOBAL_METHODS[name]
    if spec.stochastic:
        known |= {"rng", "seed"}  # one parameter under two names before SciPy 1.15
    ours = {row.name for row in spec.kwargs.values() if row.ours}
    assert set(spec.kwargs) - ours <= known
    assert known <= set(spec.kwargs)
    assert spec.stochastic == ("rng" in spec.kwargs)


@EACH
def test_the_defaults_are_scipys(name):
    parameters = inspect.signature(getattr(scipy.optimize, name)).parameters
    for row in GLOBAL_METHODS[name].kwargs.values():
        if row.name in parameters and not row.ours and (name, row.name) not in OTHER_DEFAULTS:
            default = parameters[row.name].default
            assert row.default == (None if default is inspect.Parameter.empty else default), row.name


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        GLOBAL_METHODS["anneal"] = GLOBAL_METHODS["shgo"]


# Known minima


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


# Against SciPy's own runs


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


def test_basin_hopping_takes_scipys_hops():
    hops = []
    plain = scipy.optimize.basinhopping(
        numpy_rastrigin,
        X0,
        niter=25,
        minimizer_kwargs=dict(method="BFGS", jac=numpy_gradient),
        callback=lambda x, f, accept: hops.append((f, accept)),
        **seeded("basinhopping", 7),
    )
    made = run("basinhopping", Loss(rastrigin, X0), dict(niter=25, rng=7))
    assert made.result.fun == pytest.approx(plain.fun, abs=1e-12)
    assert made.result.x == pytest.approx(plain.x, abs=1e-7)
    assert (made.result.nit, made.result.nfev, made.result.njev) == (plain.nit, plain.nfev, plain.njev)
    assert made.history.metrics["candidate"][1 : 1 + len(hops)] == pytest.approx([f for f, _ in hops], abs=1e-8)
    assert [it.accepted for it in made.history][1 : 1 + len(hops)] == [accept for _, accept in hops]
    assert made.result.message == plain.message[0]


def test_dual_annealing_takes_scipys_steps():
    local = dict(method="L-BFGS-B", jac=numpy_gradient, bounds=BOX)
    plain = scipy.optimize.dual_annealing(
        numpy_rastrigin, BOX, x0=X0, maxiter=100, minimizer_kwargs=local, **seeded("dual_annealing", 5)
    )
    made = run("dual_annealing", Loss(rastrigin, X0), dict(bounds=RASTRIGIN, maxiter=100, rng=5))
    assert made.result.fun == pytest.approx(plain.fun, abs=1e-12)
    assert (made.result.nit, made.result.nfev) == (plain.nit, plain.nfev)


def test_dual_annealing_starts_where_scipy_does_if_told():
    plain = scipy.optimize.dual_annealing(
        numpy_rastrigin, BOX, maxiter=10, no_local_search=True, **seeded("dual_annealing", 5)
    )
    kwargs = dict(bounds=RASTRIGIN, maxiter=10, no_local_search=True, rng=5, x0=None)
    made = run("dual_annealing", Loss(rastrigin, [5.0, 5.0]), kwargs)
    assert made.result.x == pytest.approx(plain.x)
    assert made.result.nfev == plain.nfev
    assert "minima" not in made.result


@pytest.mark.parametrize("sampling", ["simplicial", "halton", "sobol"])
def test_shgo_finds_scipys_minima(sampling):
    kwargs = dict(n=32, iters=2, sampling_method=sampling)
    descent = dict(method="SLSQP", options=dict(ftol=1e-12))  # SciPy's own, where none is named
    plain = scipy.optimize.shgo(numpy_rastrigin, BOX, minimizer_kwargs=dict(descent, jac=numpy_gradient), **kwargs)
    made = run("shgo", Loss(rastrigin, X0), dict(bounds=RASTRIGIN, **kwargs))
    assert made.result.funl == pytest.approx(plain.funl, abs=1e-8)
    assert sorted(made.result.xl.round(5).tolist()) == sorted(plain.xl.round(5).tolist())  # equal losses, in any order
    assert (made.result.nit, made.result.nlfev, made.result.nfev) == (plain.nit, plain.nlfev, plain.nfev)
    assert made.result.njev == plain.nljev


@pytest.mark.parametrize("updating", ["immediate", "deferred"])
@pytest.mark.parametrize("init", ["latinhypercube", "random"])
def test_differential_evolution_breeds_scipys_generations(updating, init):
    kwargs = dict(init=init, updating=updating, polish=False, maxiter=40)
    plain = scipy.optimize.differential_evolution(
        numpy_rastrigin, BOX, x0=X0, **kwargs, **seeded("differential_evolution", 11)
    )
    made = run("differential_evolution", Loss(rastrigin, X0), dict(bounds=RASTRIGIN, rng=11, **kwargs))
    assert made.result.x == pytest.approx(plain.x, abs=1e-9)
    assert (made.result.nit, made.result.nfev) == (plain.nit, plain.nfev)
    assert made.result.population == pytest.approx(plain.population, abs=1e-9)


def test_direct_divides_scipys_rectangles():
    plain = scipy.optimize.direct(numpy_rastrigin, [(-4, 5.5), (-5, 4)])
    made = run("direct", Loss(rastrigin, X0), dict(bounds=[(-4, 5.5), (-5, 4)]))
    assert made.result.x == pytest.approx(plain.x, abs=1e-12)
    assert (made.result.nit, made.result.nfev, made.result.status) == (plain.nit, plain.nfev, plain.status)


def test_brute_searches_scipys_grid():
    ranges = (slice(-4, 4, 0.5), (-3, 3, 0.25))
    x, fun, grid, losses = scipy.optimize.brute(numpy_rastrigin, ranges, full_output=True, finish=None)
    made = run("brute", Loss(rastrigin, X0), dict(ranges=ranges, finish=None))
    assert made.result.x.tolist() == x.tolist()
    assert made.result.fun == pytest.approx(fun, abs=1e-12)
    assert made.result.grid == pytest.approx(grid)
    assert made.result.Jout == pytest.approx(losses)


@pytest.mark.parametrize("ranges", [(-5, 5), [(-5, 5), (-5, 5)], [(-5, 5), slice(-5, 5, 7j)]], ids=str)
def test_brute_takes_ns_points_along_every_axis_without_a_step(ranges):
    made = run("brute", Loss(rastrigin, X0), dict(ranges=ranges, Ns=7, finish=None))
    assert made.result.Jout.shape == (7, 7)


def test_brute_in_one_variable():
    made = run("brute", Loss(bowl, [0.0]), dict(ranges=(-1, 1), Ns=10))
    assert made.result.x == pytest.approx([0.3], abs=1e-6)
    assert made.result.x.shape == (1,)


@pytest.mark.parametrize("name", [name for name, spec in GLOBAL_METHODS.items() if spec.stochastic])
def test_the_same_seed_gives_the_same_run(name):
    rng = np.random.default_rng
    ends = [run(name, Loss(rastrigin, X0), short(name, rng=seed)).result.x for seed in (4, rng(4), 4)]
    assert ends[0].tolist() == ends[1].tolist() == ends[2].tolist()
    legacy = {**short(name), "seed": 4}
    del legacy["rng"]
    run(name, Loss(rastrigin, X0), legacy)


# Events


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
    "differential_evolution": {"generation", "convergence", "minima"},
    "direct": set(),
    "brute": {"searched"},  # minima too, where the descent is an improvement
}


@EACH
def test_iterations_carry_what_the_method_reports(name):
    made = run(name, Loss(rastrigin, X0))
    assert set(made.history.metrics) == METRICS[name]
    counts = [it.accepted is not None for it in made.history]
    assert sum(counts) == (13 if name == "basinhopping" else 0)


def test_temperatures_fall():
    made = run("dual_annealing", Loss(rastrigin, X0))
    temperatures = made.history.metrics["temperature"]
    temperatures = temperatures[np.isfinite(temperatures)]
    assert len(temperatures) == made.result.nit == 30
    assert (np.diff(temperatures) < 0).all()
    assert temperatures[0] == pytest.approx(5230.0)


def test_one_iteration_a_generation():
    made = run("differential_evolution", Loss(rastrigin, X0), short("differential_evolution", polish=False))
    generations = made.history.metrics["generation"]
    assert generations[1:].tolist() == list(range(1, made.result.nit + 1))
    assert len(made.history) == made.result.nit + 1


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


def test_scipys_own_callback_in_its_newer_form():
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result.nit)
        return len(seen) == 3

    made = run("differential_evolution", Loss(rastrigin, X0), short("differential_evolution", callback=callback))
    assert seen == [1, 2, 3]
    assert "stop early" in made.result.message


# Minima


def test_basin_hopping_lists_the_minima():
    made = run("basinhopping", Loss(himmelblau, [0.0, 0.0]), dict(niter=100, rng=0, stepsize=5.0, T=1e3))
    assert len(made.result.minima) == 4
    for loss, x in made.result.minima:
        assert loss == pytest.approx(0, abs=1e-8)
        assert float(himmelblau(torch.tensor(x))) == pytest.approx(loss, abs=1e-12)
    assert made.history.metrics["minima"][-1] == 4


@pytest.mark.parametrize("name", ["shgo", "dual_annealing", "basinhopping"])
def test_minima_are_distinct_and_sorted(name):
    kwargs = short(name, **({"maxiter": 200} if name == "dual_annealing" else {}))
    made = run(name, Loss(rastrigin, X0), kwargs)
    losses = [loss for loss, _ in made.result.minima]
    points = np.array([x for _, x in made.result.minima])
    assert losses == sorted(losses)
    assert len(np.unique(points.round(2), axis=0)) == len(points) > 1
    assert losses[0] == pytest.approx(made.result.fun, abs=1e-9)
    for x in points:
        assert numpy_gradient(x) == pytest.approx(np.zeros(2), abs=1e-3)


# The local method


@pytest.mark.parametrize("name", WITH_LOCAL)
@pytest.mark.parametrize(
    "method", ["L-BFGS-B", "slsqp", "Nelder-Mead", "TNC", "Newton-CG", "trust-exact", "trust-constr"]
)
def test_any_local_method(name, method):
    if name == "basinhopping":
        kwargs = dict(niter=2, rng=0)
    else:
        kwargs = short(name, bounds=(-6.0, 6.0), **({"maxiter": 4} if name == "dual_annealing" else {}))
    made = run(name, Loss(himmelblau, [1.0, 1.0]), kwargs, dict(method=method, options=dict(maxiter=200)))
    assert made.result.fun == pytest.approx(0, abs=1e-4)
    if torchmin_nb.METHODS[made.request.method].curvature != "none":
        assert made.history.totals.nhvp > 0


def test_the_default_local_method():
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    group = [{"params": [x], "bounds": (0, 1)}]
    assert torchmin_nb.BasinHoppingWrapper([x]).request.method == "BFGS"
    assert torchmin_nb.BasinHoppingWrapper(group).request.method == "L-BFGS-B"
    assert torchmin_nb.BasinHoppingWrapper([x], dict(bounds=(0, 1))).request.method == "L-BFGS-B"
    shgo = torchmin_nb.SHGOWrapper(group).request
    assert (shgo.method, shgo.options) == ("SLSQP", {"ftol": 1e-12})  # as SciPy's
    assert torchmin_nb.SHGOWrapper(group, dict(tol=1e-3)).request.method == "SLSQP"
    assert torchmin_nb.SHGOWrapper(group, "L-BFGS-B").request.method == "L-BFGS-B"
    assert torchmin_nb.SHGOWrapper(group, None, dict(constraints=Constraint(torch.sum))).request.method == "SLSQP"
    assert torchmin_nb.DirectWrapper(group).request is None
    assert torchmin_nb.DifferentialEvolutionWrapper(group, dict(polish=False)).request is None
    assert torchmin_nb.DifferentialEvolutionWrapper(group, dict(polish="tnc")).request.method == "TNC"
    assert torchmin_nb.BruteWrapper(group, dict(finish=None)).request is None
    assert torchmin_nb.BruteWrapper(group, dict(finish=dict(method="cg"))).request.method == "CG"


def test_the_users_own_gradient():
    asked = []

    def jac(x):
        asked.append(x)
        return numpy_gradient(x)

    made = run("basinhopping", Loss(rastrigin, X0), dict(niter=5, rng=7), dict(method="BFGS", jac=jac))
    plain = run("basinhopping", Loss(rastrigin, X0), dict(niter=5, rng=7), "BFGS")
    assert asked
    assert made.result.x == pytest.approx(plain.result.x, abs=1e-6)


def test_a_limit_of_iterations_that_scipy_has_not():
    made = run("basinhopping", Loss(himmelblau, [1.0, 1.0]), dict(niter=0), dict(method="TNC", options=dict(maxiter=2)))
    assert not made.result.success
    assert made.result.message
    assert made.result.fun < himmelblau(torch.tensor([1.0, 1.0]))


def test_basin_hopping_stays_within_bounds():
    loss = Loss(himmelblau, [1.0, 1.0])
    made = optimizer("basinhopping", [{"params": [loss.x], "bounds": (0.0, 2.5)}], dict(niter=10, rng=0, stepsize=4.0))
    made.step(loss)
    assert (made.result.x >= 0).all()
    assert (made.result.x <= 2.5).all()
    assert 2.5 in made.result.x


def test_a_local_method_without_bounds_does_not_lead_out_of_the_box():
    loss = Loss(lambda x: bowl(x - 2), [0.0, 0.0])
    made = run("dual_annealing", loss, short("dual_annealing", bounds=(-1.0, 1.0)), "BFGS")
    assert (np.abs(made.result.x) <= 1 + 1e-6).all()


@pytest.mark.parametrize("name", ["differential_evolution", "brute"])
def test_the_polish_is_counted_and_uses_gradients(name):
    loss = Loss(ackley, [1.0, 1.0])
    made = run(name, loss, short(name, bounds=(-4.0, 5.0)))
    rough = {"polish": False} if name == "differential_evolution" else {"finish": None}
    plain = run(name, Loss(ackley, [1.0, 1.0]), short(name, bounds=(-4.0, 5.0), **rough))
    assert made.result.fun < plain.result.fun
    assert made.result.nfev > plain.result.nfev
    assert made.result.njev > 0
    assert plain.history.totals.njev <= 1
    assert made.history[-1].loss == made.result.fun


def test_the_users_own_finish():
    made = run("brute", Loss(himmelblau, [0.0, 0.0]), dict(ranges=(-5, 5), Ns=11, finish=scipy.optimize.fmin))
    assert made.result.fun == pytest.approx(0, abs=1e-6)


# Closures without gradients


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


def test_a_local_method_that_needs_gradients_says_so():
    x = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    for checked in (True, False):
        made = torchmin_nb.BasinHoppingWrapper([x], "trust-ncg", start_check=checked)
        with pytest.raises(ClosureError, match="gradient"):
            made.step(lambda: float(himmelblau(x.detach())))


# Losses that are not finite


def holed(function, value):
    """Undefined on the left half."""
    return lambda x: function(x) if x[0] > 0.5 else function(x) * value


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


def test_basin_hopping_needs_a_finite_start_and_hops_over_holes():
    with pytest.raises(NonFiniteStartError, match="starting point"):
        run("basinhopping", Loss(holed(rastrigin, math.nan), [-1.0, 1.0]))
    made = run("basinhopping", Loss(holed(rastrigin, math.nan), [1.2, 1.0]), dict(niter=30, rng=0, stepsize=1.0))
    assert made.result.fun == pytest.approx(0.99496, abs=1e-3)
    assert made.result.success


@EACH_BOXED
def test_nowhere_finite(name):
    loss = Loss(lambda x: x.sum() * math.nan, [1.0, 1.0])
    with pytest.raises(NonFiniteStartError, match=r"all \d+ points"):
        run(name, loss)
    assert loss.x.tolist() == [1.0, 1.0]


def test_a_gradient_that_is_nan_at_the_best_start_does_not_hide_it():
    made = run("direct", Loss(ackley, [0.0, 0.0]), dict(bounds=(-4.0, 5.5), maxiter=5))
    assert made.result.fun == pytest.approx(0, abs=1e-12)


# Precision


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


# Bounds, fixed entries and scales


@EACH_BOXED
def test_bounds_in_all_forms(name):
    forms = [(-3.0, 4.0), [(-3.0, 4.0)] * 2, scipy.optimize.Bounds([-3, -3], [4, 4]), scipy.optimize.Bounds(-3, 4)]
    ends = [run(name, Loss(himmelblau, [0.0, 0.0]), short(name, bounds=bounds)).result.x for bounds in forms]
    loss = Loss(himmelblau, [0.0, 0.0])
    kwargs = short(name)
    del kwargs["bounds"]
    made = optimizer(name, [{"params": [loss.x], "bounds": (-3, torch.tensor([4.0, 4.0]))}], kwargs)
    made.step(loss)
    for end in ends:
        assert end.tolist() == made.result.x.tolist()


@EACH_BOXED
@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (None, "searches a box"),
        ((-1, math.inf), "finite"),
        ([(-1, 1), (None, 1)], "finite"),
        ([(-1, 1)], "1 pairs for 2 variables"),
        ([(-1, 1)] * 3, "3 pairs for 2 variables"),
        ([(-1, 1), (2, 1)], "low must not exceed high"),
        ((1, -1), "low must not exceed high"),
        ([(-1, math.nan), (0, 1)], "low must not exceed high|finite"),
        ("wide", "pair"),
    ],
)
def test_bounds_that_cannot_be_are_refused_before_any_call(name, bounds, message):
    with pytest.raises(ArgumentError, match=message):
        optimizer(name, [Loss(bowl, [0.0, 0.0]).x], short(name, bounds=bounds))


@EACH_BOXED
def test_bounds_from_two_places_are_refused(name):
    groups = [{"params": [Loss(bowl, [0.0, 0.0]).x], "bounds": (-1, 1)}]
    with pytest.raises(ArgumentError, match="twice"):
        optimizer(name, groups, short(name))


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


# Constraints


@pytest.mark.parametrize("name", ["shgo", "differential_evolution"])
def test_constraints(name):
    """Rosenbrock within the unit disc: More's (0.7864, 0.6177)."""
    disc = Constraint(lambda x: x.square().sum(), upper=1.0)
    loss = Loss(lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2, [0.0, 0.0])
    made = run(name, loss, short(name, bounds=(-1.5, 1.5), constraints=disc))
    assert made.result.x == pytest.approx([0.7864, 0.6177], abs=1e-3)


# Stop, budgets, errors


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


# Refusals


@EACH
def test_unknown_keywords(name):
    with pytest.raises(UnknownOptionError, match="'colour'; it has ") as raised:
        optimizer(name, [Loss(bowl, [0.0]).x], short(name, colour=1))
    assert all(row in str(raised.value) for row in GLOBAL_METHODS[name].kwargs)
    with pytest.raises(UnknownOptionError, match="torchmin_nb supplies it"):
        optimizer(name, [Loss(bowl, [0.0]).x], short(name, args=()))
    with pytest.raises(ArgumentTypeError, match="must be a dict"):
        optimizer(name, [Loss(bowl, [0.0]).x], [("bounds", (0, 1))])
    with pytest.raises(ArgumentTypeError, match="no keyword 'lr'"):
        optimizer(name, [Loss(bowl, [0.0]).x], short(name), lr=1)


WRONG = {"int": 1.5, "float": "hot", "bool": "yes", "choice": "blue", "callable": 3, "dict": {"colour": 1}, "weight": 7}
WRONG |= {"choice or callable": "blue", "choice or array": "blue"}
ROWS = [(name, row) for name, spec in GLOBAL_METHODS.items() for row in spec.kwargs.values() if row.kind in WRONG]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{name}-{row.name}" for name, row in ROWS])
def test_wrong_values(name, row):
    wrong = [WRONG[row.kind]]
    wrong += [] if row.low is None or row.ours else [row.low - 1]
    wrong += [] if row.default is None or row.none else [None]
    for value in wrong:
        with pytest.raises(ArgumentError, match=row.name):
            optimizer(name, [Loss(bowl, [0.0]).x], short(name, **{row.name: value}))


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("dual_annealing", dict(rng=1, seed=2), "not both"),
        ("dual_annealing", dict(x0=[1.0]), "array of 2 numbers"),
        ("dual_annealing", dict(x0=[9.0, 0.0]), "outside"),
        ("differential_evolution", dict(x0="there"), "array of 2 numbers"),
        ("differential_evolution", dict(vectorized=True, updating="immediate"), "deferred"),
        ("differential_evolution", dict(init=[[1.0], [2.0]]), r"shape \(2, 1\)"),
        ("differential_evolution", dict(init=[[1.0, math.nan]] * 9), "init"),
        ("differential_evolution", dict(integrality=[True] * 3), "integrality"),
        ("differential_evolution", dict(polish=3), "polish"),
        ("brute", dict(finish=3), "finish"),
        ("brute", dict(ranges=(0, 1)), "not both"),
        ("brute", dict(bounds=None, ranges=[(0, 1)]), "1 entries for 2"),
        ("brute", dict(bounds=None, ranges=[(0, 1), (1, 0)]), "rise"),
        ("brute", dict(bounds=None, ranges=[(0, 1), slice(0, 1, -1)]), "rise"),
        ("brute", dict(bounds=None, ranges=[(0, 1), (0, math.inf)]), "finite"),
        ("brute", dict(bounds=None, ranges=[(0, 1), "x"]), "range must be"),
        ("brute", dict(Ns=10**8), "grid of 1e\\+16 points"),
    ],
)
def test_refusals(name, kwargs, message):
    with pytest.raises((ArgumentError, MemoryBudgetError), match=message):
        optimizer(name, [Loss(bowl, [0.0, 0.0]).x], short(name, **kwargs))


def test_refusals_of_the_local_method():
    x = Loss(bowl, [0.0, 0.0]).x
    bounded = [{"params": [x], "bounds": (-1, 1)}]
    for error, match, params, given in (
        (UnknownMethodError, "SGD", [x], "SGD"),
        (UnknownOptionError, "lr", [x], dict(method="CG", options=dict(lr=1))),
        (ArgumentTypeError, "minimizer_args", [x], 3),
        (ArgumentError, "cannot take bounds", bounded, "CG"),
        (ArgumentError, "callbacks=", [x], dict(callback=print)),
        (ArgumentError, "twice", bounded, dict(bounds=(0, 1))),
    ):
        with pytest.raises(error, match=match):
            torchmin_nb.BasinHoppingWrapper(params, given)
    with pytest.raises(ArgumentError, match="takes no constraints"):
        torchmin_nb.DualAnnealingWrapper(bounded, dict(method="SLSQP", constraints=Constraint(torch.sum)))
    with pytest.raises(ArgumentError, match="at most 40"):
        torchmin_nb.BruteWrapper([torch.nn.Parameter(torch.zeros(41))], dict(bounds=(0, 1), Ns=1))


@pytest.mark.parametrize(
    ("name", "keyword"), [("basinhopping", "take_step"), ("differential_evolution", "integrality"), ("brute", "ranges")]
)
def test_keywords_of_x_do_not_go_with_scales(name, keyword):
    value = {"take_step": lambda x: x, "integrality": [True, False], "ranges": [(0, 1), (0, 1)]}[keyword]
    loss = Loss(bowl, [0.5, 0.5])
    kwargs = short(name, **{keyword: value})
    if keyword == "ranges":
        kwargs.pop("bounds")
    made = optimizer(name, [{"params": [loss.x], "scale": 2.0}], kwargs)
    with pytest.raises(ArgumentError, match=keyword):
        made.step(loss)
    assert loss.calls == 0


@EACH
def test_the_callers_dicts_are_left_alone(name):
    options = {"maxiter": 7}
    local = {"method": "L-BFGS-B", "options": options}
    kwargs = short(name)
    if name == "shgo":
        kwargs["options"] = {"maxiter": 1}
    before = {key: value.copy() if isinstance(value, dict) else value for key, value in kwargs.items()}
    made = run(name, Loss(himmelblau, [1.0, 1.0]), kwargs, local)
    made.step(Loss(himmelblau, [1.0, 1.0]))
    assert kwargs == before
    assert local == {"method": "L-BFGS-B", "options": {"maxiter": 7}}
    assert options == {"maxiter": 7}


@EACH
def test_a_run_needs_a_closure(name):
    made = optimizer(name, [Loss(bowl, [0.0, 0.0]).x], short(name))
    with pytest.raises(ArgumentTypeError, match="closure"):
        made.step()
    assert name.replace("_", "") in type(made).__name__.lower().replace("wrapper", "") or name == "brute"
    assert "parameters=2" in repr(made)


def test_integers_stay_integers():
    kwargs = short("differential_evolution", bounds=(-4.0, 4.0), integrality=[True, False])
    made = run("differential_evolution", Loss(lambda x: bowl(x - 0.9), [1.2, 1.2]), kwargs)
    assert made.result.x == pytest.approx([1.0, 1.2], abs=1e-4)
    assert made.result.x[0] == 1


# Populations


class Net:
    """The closure form with a model and a loss of it: a tiny regression."""

    def __init__(self, dtype=torch.float64):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Tanh(), torch.nn.Linear(1, 1)).to(dtype)
        self.calls = 0

    @staticmethod
    def loss(model):
        inputs = torch.linspace(-1, 1, 20, dtype=next(model.parameters()).dtype).reshape(10, 2)
        return ((model(inputs).squeeze() - inputs.prod(1)) ** 2).mean() + 1e-3 * sum(
            p.square().sum() for p in model.parameters()
        )

    def __call__(self):
        self.calls += 1
        return self.loss(self.model)


def slow(net):
    """The same as a closure that shows no model."""
    return lambda: net()


POPULATION = {
    "shgo": dict(bounds=(-2.0, 2.0), n=128, sampling_method="sobol"),
    "differential_evolution": dict(bounds=(-2.0, 2.0), rng=3, maxiter=6, popsize=8, updating="deferred"),
    "brute": dict(bounds=(-2.0, 2.0), Ns=3),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", TOGETHER)
def test_a_population_at_once_gives_what_the_loop_gives(name, dtype):
    together, alone = Net(dtype), Net(dtype)
    results = [
        optimizer(name, net.model.parameters(), POPULATION[name], keep_evaluations=True) for net in (together, alone)
    ]
    results[0].step(together)
    results[1].step(slow(alone))
    fast, loop = results
    tolerance = 1e-9 if dtype == torch.float64 else 1e-3
    assert fast.result.fun == pytest.approx(loop.result.fun, rel=tolerance)
    assert fast.result.nfev == pytest.approx(loop.result.nfev, rel=0 if dtype == torch.float64 else 0.5)
    assert together.calls < alone.calls - 100
    if dtype == torch.float64:
        assert fast.result.x == pytest.approx(loop.result.x, abs=1e-6)
        assert fast.history.totals.nfev == pytest.approx(loop.history.totals.nfev, abs=2)
        assert len(fast.history) == len(loop.history)
    assert len(fast.history.evaluations) == fast.history.totals.nfev


@pytest.mark.parametrize("name", TOGETHER)
def test_a_loss_of_the_parameters_needs_no_closure(name):
    a = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    b = torch.nn.Parameter(torch.tensor([[1.0]], dtype=torch.float64))
    calls = []

    def loss(params):
        calls.append(1)
        return himmelblau(torch.cat([part.reshape(-1) for part in params]))

    made = optimizer(name, [a, b], short(name, bounds=(-5.0, 5.0)), loss=loss)
    made.step()
    assert made.result.fun == pytest.approx(0, abs=1e-6)
    assert a.shape == (1,)
    assert b.shape == (1, 1)
    assert len(calls) < made.history.totals.nfev
    made.start().wait()
    assert made.result.fun == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", TOGETHER)
def test_vmap_that_refuses_means_a_loop(name, caplog):
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))

    def branching(params):
        p = params[0]
        return himmelblau(p) if float(p[0].detach()) > -9 else p.sum()

    made = optimizer(name, [x], short(name, bounds=(-5.0, 5.0)), loss=branching)
    with caplog.at_level("DEBUG", logger="torchmin_nb"):
        made.step()
    assert "one point at a time" in caplog.text
    plain = optimizer(name, [x], short(name, bounds=(-5.0, 5.0)), loss=lambda params: himmelblau(params[0]))
    x.data.fill_(1.0)
    plain.step()
    assert made.result.x == pytest.approx(plain.result.x, abs=1e-5)


def test_a_loss_that_is_not_the_closures_is_refused():
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
    made = torchmin_nb.BruteWrapper([x], dict(bounds=(-1, 1)), loss=lambda params: bowl(params[0]) + 1)
    with pytest.raises(InconsistentClosureError, match="must compute the same"):
        made.step(lambda: bowl(x))
    with pytest.raises(ArgumentTypeError, match="loss must be"):
        torchmin_nb.BruteWrapper([x], dict(bounds=(-1, 1)), loss=3)


def test_a_model_whose_closure_adds_something_is_looped_over():
    net = Net()
    made = optimizer("brute", net.model.parameters(), POPULATION["brute"], start_check=False)
    net.__class__ = type("Shifted", (Net,), {"__call__": lambda self: Net.__call__(self) + 1})
    made.step(net)
    assert net.calls == made.history.totals.nfev
    assert made.result.fun > 1


@pytest.mark.parametrize("budget", [1, 2, 40, 41])
def test_the_budget_holds_within_a_population(budget):
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
    made = torchmin_nb.DifferentialEvolutionWrapper(
        [x], dict(bounds=(-5, 5), rng=0), loss=lambda p: rastrigin(p[0]), max_evaluations=budget, keep_evaluations=True
    )
    made.step()
    assert made.history.totals.nfev == budget
    assert len(made.history.evaluations) == budget
    assert made.result.fun == min(evaluation.loss for evaluation in made.history.evaluations)


def test_chunks(monkeypatch):
    from torchmin_nb.core.optimizers.global_search import population

    sizes = []
    losses = population.Population.losses
    monkeypatch.setattr(population, "_MAX_CHUNK", 7)
    monkeypatch.setattr(population, "_WORTHWHILE", 1)
    monkeypatch.setattr(
        population.Population, "losses", lambda self, rows: sizes.append(len(rows)) or losses(self, rows)
    )
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
    made = torchmin_nb.DifferentialEvolutionWrapper(
        [x], dict(bounds=(-5, 5), rng=0, maxiter=2, polish=False), loss=lambda p: rastrigin(p[0])
    )
    made.step()
    assert sizes == [1, *[7, 7, 7, 7, 2] * 3]
    assert made.result.nfev == 90


def test_a_large_intermediate_makes_small_chunks():
    from torchmin_nb.core.optimizers.global_search.population import Population
    from torchmin_nb.core.parameters.flat import FlatParameters

    x = torch.nn.Parameter(torch.ones(10))
    weights = torch.ones(10, 20_000)
    small = Population(lambda p: p[0].square().sum(), FlatParameters([x]), given=True)
    large = Population(lambda p: (p[0] @ weights).exp().sum(), FlatParameters([x]), given=True)
    small.fit()
    large.fit()
    assert small.chunk == 1024
    assert 1 < large.chunk < 200


def test_where_one_point_is_large_enough_there_is_no_population():
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    grid = torch.linspace(-1, 1, 200_000, dtype=torch.float64)
    calls = []

    def loss(params):
        calls.append(1)
        return (params[0][0] - grid).exp().mean() + params[0][1].square()

    made = torchmin_nb.BruteWrapper([x], dict(bounds=(-1, 1), Ns=3, finish=None), loss=loss, start_check=False)
    made.step()
    assert len(calls) == made.history.totals.nfev + 2


# Misc


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
