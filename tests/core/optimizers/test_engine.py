"""engine="torch": the same wrapper, events, stops and results as SciPy's engine; vectors stay on the device."""

import io
import subprocess
import sys
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from tests.core.problems import PROBLEMS
from torchmin_nb import (
    LEAST_SQUARES_METHODS,
    METHODS,
    MinimizeWrapper,
    Status,
    method,
    minimize,
    unregister,
)
from torchmin_nb.core.solvers.table import SOLVERS
from torchmin_nb.errors import ArgumentError, ArgumentTypeError, HistoryError, NonFiniteStartError, StartWarning
from torchmin_nb.solvers import Ending, State

TORCH = [spec.name for spec in METHODS.values() if "torch" in spec.engines]
SHARED = [name for name in TORCH if "scipy" in METHODS[name].engines]
CURVED = [name for name in TORCH if METHODS[name].curvature != "none"]
EACH = pytest.mark.parametrize("method", TORCH)


def parameter(values=(-1.2, 1.0, 0.5, 0.7), dtype=torch.float64):
    return torch.nn.Parameter(torch.tensor(values, dtype=dtype))


def valley(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def run(method, x=None, loss=valley, groups=None, *, engine="torch", options=None, **keywords):
    x = parameter() if x is None else x
    args = {"method": method} if options is None else {"method": method, "options": options}
    optimizer = MinimizeWrapper(groups or [x], args, engine=engine, **keywords)
    optimizer.step(lambda: loss(x))
    return optimizer


# The table


def test_the_table_of_solvers_is_the_column_of_engines():
    rows = [spec.name for spec in (*METHODS.values(), *LEAST_SQUARES_METHODS.values()) if "torch" in spec.engines]
    assert set(SOLVERS) == set(rows)


@pytest.mark.parametrize("name", list(SOLVERS))
def test_every_option_of_the_row_is_one_of_the_solver(name):
    spec = METHODS[name] if name in METHODS else LEAST_SQUARES_METHODS[name]
    rows = [row for row in spec.options.values() if not (row.scipy_only or row.ours)]
    assert SOLVERS[name].solver(**{row.name: row.default for row in rows if row.default is not None})


@pytest.mark.parametrize(
    ("method", "engine", "expected"),
    [
        ("BFGS", None, "scipy"),
        ("SSBroyden", None, "torch"),
        ("BFGS", "auto", "torch"),
        ("TNC", "auto", "scipy"),
        ({"method": "BFGS", "options": {"eps": 1e-6}}, "auto", "scipy"),
        ({"method": "trust-exact", "hess": lambda x: np.eye(4)}, "auto", "scipy"),
        ("trust-exact", "torch", "torch"),
        ("trust-exact", "scipy", "scipy"),
    ],
)
def test_who_runs_a_method(method, engine, expected):
    assert MinimizeWrapper([parameter()], method, engine=engine).engine == expected


@pytest.mark.parametrize(
    ("method", "keywords", "error", "words"),
    [
        ("TNC", {"engine": "torch"}, ArgumentError, "engine='torch' cannot run TNC; it can run CG"),
        ("SSBFGS", {"engine": "scipy"}, ArgumentError, "engine='scipy' cannot run SSBFGS"),
        ("BFGS", {"engine": "cuda"}, ArgumentError, "engine.*'cuda'.*scipy, torch, auto"),
        ("BFGS", {"solver_dtype": torch.float16}, ArgumentTypeError, "solver_dtype.*float16"),
        ("BFGS", {"keep_states": 0}, ArgumentError, "keep_states"),
        ({"method": "BFGS", "options": {"eps": 1e-6}}, {"engine": "torch"}, ArgumentError, "option eps of BFGS"),
        ({"method": "BFGS", "jac": lambda x: x}, {"engine": "torch"}, ArgumentError, "jac of BFGS"),
        ({"method": "trust-ncg", "hessp": lambda x, v: v}, {"engine": "torch"}, ArgumentError, "hessp of trust-ncg"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_at_once(method, keywords, error, words):
    with pytest.raises(error, match=words):
        MinimizeWrapper([parameter()], method, **keywords)


# The same run as SciPy's


@pytest.mark.parametrize("translated", ["plain", "scaled", "groups"])
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", [name for name in SHARED if name != "trust-krylov"])
@pytest.mark.crossed
def test_in_float64_the_iterates_are_scipys(method, name, translated):
    if translated != "plain" and name not in ("Rosenbrock 5", "Wood"):
        pytest.skip("one problem of each kind")
    problem, ended = PROBLEMS[name], []
    for engine in ("scipy", "torch"):
        x = parameter(problem.x0)
        groups, loss = [x], problem.loss
        if translated == "scaled":
            groups = [{"params": [x], "scale": torch.linspace(0.5, 3, len(x), dtype=torch.float64)}]
        if translated == "groups":
            parts = [torch.nn.Parameter(x.detach()[:1].clone()), torch.nn.Parameter(x.detach()[1:].clone())]
            groups, loss = [{"params": [part]} for part in parts], lambda _, parts=parts: problem.loss(torch.cat(parts))
        ended.append(run(method, x, loss, groups, engine=engine, keep_parameters=True))
    ours, scipys = ended[1], ended[0]
    count = min(21, len(scipys.history), len(ours.history))
    np.testing.assert_allclose(
        np.array(ours.history.parameters[:count]), np.array(scipys.history.parameters[:count]), rtol=1e-6, atol=1e-9
    )
    assert ours.result.success == scipys.result.success
    if max(len(scipys.history), len(ours.history)) <= 40:  # rounding parts the tail of a longer run
        assert (ours.result.nit, ours.result.nfev) == (scipys.result.nit, scipys.result.nfev)
        assert ours.result.fun == pytest.approx(scipys.result.fun, rel=1e-6, abs=1e-9)
    if METHODS[method].radius != "none":
        np.testing.assert_allclose(ours.history.trust_radius[:count], scipys.history.trust_radius[:count], rtol=1e-6)


@EACH
def test_the_valley_is_solved_and_everything_is_told(method):
    seen = []
    optimizer = run(method, callbacks=[seen.append], keep_evaluations=True, options={"maxiter": 500})
    result, history = optimizer.result, optimizer.history
    assert result.success
    assert isinstance(result.x, np.ndarray)
    assert np.abs(result.jac).max() < 1e-2
    assert [each.index for each in seen] == list(range(len(history)))
    assert history[-1].loss == result.fun == pytest.approx(valley(optimizer.param_groups[0]["params"][0]).item())
    assert result.nit == history[-1].index
    assert result.nfev == history[-1].nfev == len(history.evaluations)
    assert all(each.grad_norm is not None and each.metrics == {} for each in history)
    assert (history[-1].trust_radius is not None) == (METHODS[method].radius != "none")
    np.testing.assert_allclose(optimizer.param_groups[0]["params"][0].grad.numpy(), result.jac)


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_of_the_solver(method, dtype):
    """float32 parameters are solved in float32, or in float64 where asked; none is left far from the end."""
    x = parameter(dtype=torch.float32)
    optimizer = MinimizeWrapper([x], method, solver_dtype=dtype)
    optimizer = MinimizeWrapper([x], method, engine="torch", solver_dtype=dtype)
    optimizer.step(lambda: valley(x))
    assert x.dtype is torch.float32
    assert optimizer.states[max(optimizer.states)].sample.x.dtype is dtype
    assert valley(x).item() == pytest.approx(3.70143, rel=1e-3) or valley(x).item() < 1e-3


@EACH
def test_scale_fixed_entries_and_absent_parameters(method):
    x, unused = parameter(), torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    groups = [{"params": [x], "scale": 2.0}, {"params": [unused]}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = run(method, x, groups=groups, options={"maxiter": 500})
    assert optimizer.result.success
    assert torch.equal(unused.detach(), torch.ones(2, dtype=torch.float64))


def test_bounds_and_fixed_entries():
    x = parameter([0.5, 2.0, 0.3])
    low = torch.tensor([-1.0, -1.0, 0.3], dtype=torch.float64)
    high = torch.tensor([0.8, 5.0, 0.3], dtype=torch.float64)
    optimizer = run("L-BFGS-B", x, valley, [{"params": [x], "bounds": (low, high)}])
    expected = run("L-BFGS-B", parameter([0.5, 2.0, 0.3]), valley, engine="scipy")
    y = parameter([0.5, 2.0, 0.3])
    expected = run("L-BFGS-B", y, valley, [{"params": [y], "bounds": (low, high)}], engine="scipy")
    assert optimizer.result.success
    assert x[2].item() == 0.3
    assert optimizer.result.fun == pytest.approx(expected.result.fun, rel=1e-6)
    assert optimizer.result.kkt_residual < 1e-2


@EACH
def test_loss_scale_changes_what_the_solver_sees_and_nothing_else(method):
    plain = run(method, loss=lambda x: 1e-9 * valley(x), options={"maxiter": 400}, loss_scale="auto")
    assert plain.result.success
    assert plain.history[0].loss == pytest.approx(1e-9 * valley(parameter()).item())
    assert 1e9 * plain.result.fun == pytest.approx(3.70143, rel=1e-3) or plain.result.fun < 1e-12


@pytest.mark.parametrize("method", CURVED)
def test_curvature_by_differences(method):
    optimizer = run(method, curvature="finite-difference", options={"maxiter": 300})
    assert optimizer.result.fun == pytest.approx(3.701428610, rel=1e-6)


# Trials that are not defined, stops and budgets


@EACH
def test_a_nan_wall_is_stepped_back_from(method):
    def loss(x):
        return ((x - 1.2) ** 2).sum() + torch.where(x > 1.5, torch.nan, 0.0).sum()

    optimizer = run(method, parameter([-3.0, 0.5]), loss, options={"maxiter": 300})
    assert optimizer.result.fun < 1e-6
    with pytest.raises(NonFiniteStartError):
        run(method, parameter([2.0, 0.5]), loss)


@EACH
@pytest.mark.parametrize("answer", [float("nan"), float("inf"), "constant", "error"])
def test_other_trials_that_are_rejected(method, answer):
    calls = []

    def loss(x):
        calls.append(1)
        if len(calls) == 4 and answer == "error":
            raise torch.linalg.LinAlgError("not positive definite")
        if len(calls) == 4:
            return torch.tensor(1e6 if answer == "constant" else answer)
        return valley(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = run(method, loss=loss, start_check=False, options={"maxiter": 500})
    assert optimizer.result.fun == pytest.approx(3.70143, rel=1e-3) or optimizer.result.fun < 1e-6
    assert sum(optimizer.history.errors.values()) == (answer == "error")


@EACH
@pytest.mark.parametrize(
    ("keywords", "status"),
    [
        ({"max_evaluations": 5}, Status.MAX_EVALUATIONS),
        ({"target_loss": 5.0}, Status.TARGET_REACHED),
        ({"callbacks": [lambda iteration: iteration.index == 3]}, Status.STOPPED),
        ({"max_seconds": 1e-9}, Status.MAX_SECONDS),
    ],
)
def test_stops_and_budgets_keep_the_best_point(method, keywords, status):
    if status is Status.MAX_SECONDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer = run(method, **keywords)
        assert optimizer.result.status == status
        return
    optimizer = run(method, keep_evaluations=True, **keywords)
    assert optimizer.result.status == status
    assert optimizer.result.fun == min(each.loss for each in optimizer.history.evaluations)
    assert valley(optimizer.param_groups[0]["params"][0]).item() == pytest.approx(optimizer.result.fun, rel=1e-12)


@EACH
def test_maxiter_is_told_as_scipy_does(method):
    optimizer = run(method, options={"maxiter": 3})
    assert not optimizer.result.success
    assert optimizer.result.nit == 3
    assert "iteration" in optimizer.result.message.lower()


@EACH
def test_a_run_in_a_thread_pauses_advances_and_takes_the_same_path(method):
    whole = run(method, options={"maxiter": 40})
    x = parameter()
    started = MinimizeWrapper([x], {"method": method, "options": {"maxiter": 40}}, engine="torch").start(
        lambda: valley(x), iterations=2
    )
    assert started.wait_until_paused(30)
    assert started.history[-1].index == 2
    started.advance(3)
    assert started.wait_until_paused(30)
    assert started.history[-1].index == 5
    started.resume()
    assert started.wait(60).fun == whole.result.fun
    assert [each.loss for each in started.history] == [each.loss for each in whole.history]


def test_the_users_scipy_callback_is_called():
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result.fun)
        if len(seen) == 3:
            raise StopIteration

    x = parameter()
    optimizer = MinimizeWrapper([x], {"method": TORCH[-1], "callback": callback}, engine="torch")
    optimizer.step(lambda: valley(x))
    assert optimizer.result.status == Status.STOPPED
    assert seen == [each.loss for each in optimizer.history][1:4]


def test_minimize_takes_the_engine():
    result = minimize(valley, [-1.2, 1.0, 0.5, 0.7], TORCH[-1], engine="torch")
    assert result.success


# States


@EACH
def test_an_unchanged_branch_takes_the_tail_again_bit_for_bit(method):
    x = parameter()
    optimizer = MinimizeWrapper(
        [x], {"method": method, "options": {"maxiter": 30}}, engine="torch", keep_parameters=True, keep_states=4
    )
    first = optimizer.start(lambda: valley(x))
    first.wait()
    tail = np.array(first.history.parameters)
    assert list(first.kept)[:3] == [0, 4, 8]
    assert max(first.kept) == first.history[-1].index
    second = first.branch(iteration=8)
    second.wait()
    assert second.origin is first
    np.testing.assert_array_equal(np.array(second.history.parameters), tail[8:])
    assert (second.result.message, second.result.fun) == (first.result.message, first.result.fun)


@EACH
def test_a_branch_by_another_method_begins_at_the_kept_point(method):
    x = parameter()
    first = MinimizeWrapper([x], method, engine="torch", keep_parameters=True, keep_states=1).start(lambda: valley(x))
    first.wait()
    for other, engine in (("trust-ncg", "torch"), ("BFGS", "scipy"), ("Nelder-Mead", "scipy")):
        second = first.branch(iteration=3, method=other, engine=engine)
        second.wait()
        np.testing.assert_array_equal(second.history[0].loss, first.history[3].loss)
        assert second.history.method == other


def test_scipys_runs_branch_from_the_kept_point_and_say_so():
    x = parameter()
    first = MinimizeWrapper([x], "L-BFGS-B", engine="scipy", keep_states=4).start(lambda: valley(x))
    first.wait()
    with pytest.warns(StartWarning, match="without its memory"):
        second = first.branch(iteration=8)
    second.wait()
    assert second.history[0].loss == first.history[8].loss
    with pytest.raises(ArgumentError, match="iteration 7 was not kept; kept are 4, 8"):
        first.branch(iteration=7)


def test_states_are_kept_within_the_budget():
    x = parameter()
    optimizer = MinimizeWrapper([x], CURVED[0], engine="torch", keep_states=1, memory_budget=1500)
    optimizer.step(lambda: valley(x))
    assert 1 < len(optimizer.states) < len(optimizer.history)
    assert max(optimizer.states) == optimizer.history[-1].index


CONTINUE = """
import sys, torch
from torchmin_nb import MinimizeWrapper
states, paths = torch.load(sys.argv[1]), {}
for method, (state, start) in states.items():
    x = torch.nn.Parameter(start)
    optimizer = MinimizeWrapper([x], method, engine="torch", keep_parameters=True)
    optimizer.load_state_dict(state)
    optimizer.step(lambda: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())
    paths[method] = torch.tensor(optimizer.history.parameters, dtype=torch.float64)
torch.save(paths, sys.argv[1])
"""


@pytest.mark.slow
def test_states_go_on_bit_for_bit_in_a_new_process(tmp_path):
    states, file = {}, str(tmp_path / "states.pt")
    for name in (CURVED[0], "BFGS", "L-BFGS-B"):
        x = parameter()
        states[name] = run(name, x, options={"maxiter": 6}).state_dict(), x.detach()
    torch.save(states, file)
    subprocess.run([sys.executable, "-c", CONTINUE, file], check=True, timeout=120)
    for name, path in torch.load(file).items():
        whole = run(name, keep_parameters=True)
        np.testing.assert_array_equal(path.numpy(), np.array(whole.history.parameters)[6:])
    assert len(torch.load(file)) == 3


@EACH
def test_a_state_goes_on_after_a_stop_within_an_iteration(method):
    whole = run(method, keep_parameters=True, options={"maxiter": 60})
    x = parameter()
    part = run(method, x, options={"maxiter": 60}, max_evaluations=7)
    buffer = io.BytesIO()
    torch.save(part.state_dict(), buffer)
    buffer.seek(0)
    optimizer = MinimizeWrapper([x], method, engine="torch", keep_parameters=True)
    optimizer.load_state_dict(torch.load(buffer))
    optimizer.step(lambda: valley(x))
    count = part.history[-1].index
    path = np.array(optimizer.history.parameters)
    length = min(len(path), len(whole.history) - count)
    np.testing.assert_array_equal(path[:length], np.array(whole.history.parameters)[count : count + length])


def test_a_state_of_elsewhere_is_not_gone_on_from():
    x = parameter()
    state = run(CURVED[0], x, options={"maxiter": 6}).state_dict()
    other = MinimizeWrapper([parameter([3.0, 1.0, 1.0, 1.0])], CURVED[0], engine="torch")
    other.load_state_dict(state)
    with pytest.warns(StartWarning, match="starts without the loaded state"):
        other.step(lambda: valley(other.param_groups[0]["params"][0]))
    broken = {**state, "solver": {"method": "nothing"}}
    with pytest.raises(HistoryError, match="no state of a solver"):
        MinimizeWrapper([x], CURVED[0], engine="torch").load_state_dict(broken)


# What leaves the device


@contextmanager
def transfers():
    """Counts what is brought to the host, as (kind, number of elements)."""
    seen, names = [], ("item", "tolist", "numpy", "__array__", "__float__", "__bool__", "__int__", "cpu")
    saved = {name: getattr(torch.Tensor, name) for name in names}

    def counting(name):
        def count(tensor, *args, **kwargs):
            seen.append((name, tensor.numel()))
            return saved[name](tensor, *args, **kwargs)

        return count

    for name in names:
        setattr(torch.Tensor, name, counting(name))
    try:
        yield seen
    finally:
        for name in names:
            setattr(torch.Tensor, name, saved[name])


@EACH
def test_only_numbers_that_decide_come_to_the_host(method):
    n, counts = 2000, []
    weights = torch.linspace(1, 3, n, dtype=torch.float64)
    x = torch.nn.Parameter(torch.linspace(-1, 1, n, dtype=torch.float64))
    if METHODS[method].dense:
        n = 60
        weights, x = weights[:n], torch.nn.Parameter(x.detach()[:n].clone())

    def note(iteration):
        counts.append((len(seen), iteration.nfev + iteration.nhvp + iteration.nhev))

    optimizer = MinimizeWrapper(
        [x], {"method": method, "options": {"maxiter": 12}}, engine="torch", callbacks=[note], start_check=False
    )
    with transfers() as seen:
        optimizer.step(lambda: ((weights * (x - 0.3)) ** 2).sum() + (x**4).sum())
    inside = seen[counts[0][0] : counts[-1][0]]
    work, iterations = counts[-1][1] - counts[0][1], len(counts) - 1
    assert iterations >= 2
    assert all(size < n for _, size in inside)
    waits = [kind for kind, _ in inside if kind not in ("numpy", "__array__")]  # those take what is on the host already
    assert len(waits) <= work + 2 * iterations + 2  # two as the state is made


@pytest.mark.parametrize("method", ["L-BFGS-B", "trust-ncg"])
def test_the_start_check_brings_no_vector_to_the_host(method):
    n, vectors = 2000, []
    for check in (False, True):
        x = torch.nn.Parameter(torch.linspace(-1, 1, n, dtype=torch.float64))
        optimizer = MinimizeWrapper([x], method, engine="torch", start_check=check, max_evaluations=3)
        with transfers() as seen:
            optimizer.step(lambda x=x: ((x - 0.3) ** 2).sum() + (x**4).sum())
        vectors.append(sum(size >= n for _, size in seen))
    assert vectors[0] == vectors[1]


# Solvers of the user's own


@pytest.fixture
def descent():
    @method("plain-descent", needs="gradient")
    class PlainDescent:
        """A gradient step of fixed length."""

        def __init__(self, *, rate: float = 0.1):
            self.rate = rate

        def init(self, problem):
            return State(problem.evaluate(problem.start()))

        def step(self, problem, state):
            new = problem.evaluate(state.sample.x - self.rate * state.sample.gradient)
            return State(new, state.iteration + 1, step_norm=self.rate * state.sample.norm)

        def terminate(self, problem, state):
            return Ending(0, True, "Done.") if state.sample.largest < 1e-6 else None

    yield "plain-descent"
    unregister("plain-descent")


def test_a_solver_of_ones_own_stops_saves_and_branches(descent):
    x = parameter([4.0, -2.0])
    optimizer = MinimizeWrapper(
        [x], {"method": descent, "options": {"rate": 0.3, "maxiter": 12}}, keep_states=2, keep_parameters=True
    )
    assert optimizer.engine == "torch"
    first = optimizer.start(lambda: ((x - 1) ** 2).sum())
    assert first.wait().status == Status.MAX_ITERATIONS
    assert first.history[-1].index == 12
    second = first.branch(iteration=4, options={"maxiter": 30})
    assert second.wait().message == "Done."
    tail = np.array(first.history.parameters)[4:]
    np.testing.assert_array_equal(np.array(second.history.parameters)[: len(tail)], tail)
    again = MinimizeWrapper([x], {"method": descent, "options": {"rate": 0.3}})
    again.load_state_dict(optimizer.state_dict())


def test_a_class_that_is_no_solver_is_refused():
    with pytest.raises(ArgumentError, match="lacks step, terminate"):

        @method("half")
        class Half:
            def init(self, problem):
                """Nothing."""
