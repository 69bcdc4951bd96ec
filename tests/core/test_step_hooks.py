"""torch's step hooks around `step` and `start` of every wrapper: the hooks of one optimizer and those of all."""

import threading

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from torchmin_nb import (
    BasinHoppingWrapper,
    BruteWrapper,
    DifferentialEvolutionWrapper,
    DirectWrapper,
    DualAnnealingWrapper,
    LeastSquaresWrapper,
    MinimizeWrapper,
    SHGOWrapper,
)

LONG = 20.0  # seconds a test waits at most for what takes milliseconds
BOX = (-2.0, 2.0)
MAKE = {
    "MinimizeWrapper": lambda x: MinimizeWrapper([x], "BFGS"),
    "LeastSquaresWrapper": lambda x: LeastSquaresWrapper([x], "trf"),
    "BasinHopping": lambda x: BasinHoppingWrapper([x], None, dict(niter=1, rng=0)),
    "DualAnnealing": lambda x: DualAnnealingWrapper([x], None, dict(maxiter=2, bounds=BOX, rng=0)),
    "SHGO": lambda x: SHGOWrapper([x], None, dict(n=4, bounds=BOX)),
    "DifferentialEvolution": lambda x: DifferentialEvolutionWrapper([x], dict(maxiter=1, bounds=BOX, rng=0)),
    "Direct": lambda x: DirectWrapper([x], dict(maxiter=2, bounds=BOX)),
    "Brute": lambda x: BruteWrapper([x], dict(Ns=3, bounds=BOX)),
}
EACH = pytest.mark.parametrize("name", MAKE)
CALLS = {
    "step": lambda optimizer, closure: optimizer.step(closure),
    "start": lambda optimizer, closure: optimizer.start(closure).wait(LONG),
}
BOTH = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def made(name):
    """A leaf, its optimizer, and a closure that notes its calls: a loss, or residuals."""
    x, noted = torch.nn.Parameter(torch.tensor([1.5, -1.0], dtype=torch.float64)), []
    optimizer = MAKE[name](x)

    def closure():
        noted.append("closure")
        residuals = x - 0.25
        return residuals if isinstance(optimizer, LeastSquaresWrapper) else residuals.square().sum()

    return x, optimizer, closure, noted


@pytest.fixture
def global_hooks():
    """What the hooks of all optimizers note."""
    noted = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: noted.append("pre of all")),
        register_optimizer_step_post_hook(lambda *_: noted.append("post of all")),
    ]
    yield noted
    for handle in handles:
        handle.remove()


@BOTH
@EACH
def test_hooks_are_called_once_around_the_run(name, call, global_hooks):
    _, optimizer, closure, noted = made(name)
    global_hooks_seen = []
    seen = {}

    def pre(given, args, kwargs):
        seen["pre"] = given is optimizer, args[0] is optimizer, callable(args[1]), kwargs
        global_hooks_seen.extend(global_hooks)
        noted.append("pre")

    def post(given, args, kwargs):
        seen["post"] = given is optimizer, given.result.success, given.history.message == given.result.message
        noted.append("post")

    optimizer.register_step_pre_hook(pre)
    optimizer.register_step_post_hook(post)
    call(optimizer, closure)
    assert (noted[0], noted[-1], noted.count("pre"), noted.count("post")) == ("pre", "post", 1, 1)
    assert noted.count("closure") == len(noted) - 2 > 0
    assert seen == {"pre": (True, True, True, {}), "post": (True, optimizer.result.success, True)}
    assert (global_hooks_seen, global_hooks) == (["pre of all"], ["pre of all", "post of all"])
    call(optimizer, closure)
    assert (noted.count("pre"), noted.count("post"), len(global_hooks)) == (2, 2, 4)


@BOTH
@EACH
def test_a_pre_hook_may_replace_the_closure(name, call):
    x, optimizer, closure, noted = made(name)
    other = []

    def instead():
        other.append(1)
        return x + 0.5 if isinstance(optimizer, LeastSquaresWrapper) else (x + 0.5).square().sum()

    handle = optimizer.register_step_pre_hook(lambda given, args, kwargs: ((given, instead), kwargs))
    call(optimizer, closure)
    assert other
    assert not noted
    handle.remove()
    call(optimizer, closure)
    assert noted


def test_hooks_of_a_run_are_in_its_thread():
    _, optimizer, closure, _ = made("MinimizeWrapper")
    threads = []
    optimizer.register_step_pre_hook(lambda *_: threads.append(threading.current_thread()))
    optimizer.register_step_post_hook(lambda *_: threads.append(threading.current_thread()))
    optimizer.callbacks.append(lambda iteration: threads.append(threading.current_thread()) or False)
    optimizer.start(closure).wait(LONG)
    assert len(set(threads)) == 1
    assert threads[0] is not threading.main_thread()


def test_the_pre_hook_of_a_paused_run_waits_for_its_first_resume():
    _, optimizer, closure, noted = made("MinimizeWrapper")
    optimizer.register_step_pre_hook(lambda *_: noted.append("pre"))
    run = optimizer.start(closure, paused=True)
    assert run.wait_until_paused(LONG)
    assert (noted, run.state) == ([], "pending")
    run.resume()
    run.wait(LONG)
    assert noted[:2] == ["pre", "closure"]


@BOTH
def test_a_run_that_raises_has_no_post_hook(call):
    _, optimizer, _, noted = made("MinimizeWrapper")

    def failing():
        raise RuntimeError("no loss")

    optimizer.register_step_pre_hook(lambda *_: noted.append("pre"))
    optimizer.register_step_post_hook(lambda *_: noted.append("post"))
    with pytest.raises(RuntimeError, match="no loss"):
        call(optimizer, failing)
    assert noted == ["pre"]


@BOTH
def test_a_run_that_is_stopped_has_a_post_hook(call):
    _, optimizer, closure, noted = made("MinimizeWrapper")
    optimizer.register_step_post_hook(lambda given, *_: noted.append(given.result.status))
    optimizer.callbacks.append(lambda iteration: True)
    call(optimizer, closure)
    assert noted[-1] == optimizer.result.status


@pytest.mark.parametrize("when", ["pre", "post"])
@BOTH
def test_what_a_hook_raises_is_raised_and_the_parameters_are_free(call, when):
    x, optimizer, closure, _ = made("MinimizeWrapper")
    call(optimizer, closure)

    def hook(*_):
        raise RuntimeError(f"{when} hook")

    handle = getattr(optimizer, f"register_step_{when}_hook")(hook)
    with pytest.raises(RuntimeError, match=f"{when} hook"):
        call(optimizer, closure)
    handle.remove()
    with torch.no_grad():
        x.fill_(1.0)
    call(optimizer, closure)
    assert x.tolist() == pytest.approx([0.25, 0.25])


def test_a_run_whose_pre_hook_raises_has_no_result_of_the_run_before():
    _, optimizer, closure, _ = made("MinimizeWrapper")
    optimizer.start(closure).wait(LONG)

    def hook(*_):
        raise RuntimeError("pre hook")

    optimizer.register_step_pre_hook(hook)
    run = optimizer.start(closure)
    with pytest.raises(RuntimeError, match="pre hook"):
        run.wait(LONG)
    assert (run.state, run.result, len(run.history)) == ("failed", None, 0)


def test_a_learning_rate_like_schedule_sees_the_end_before_wait_returns():
    x, optimizer, closure, noted = made("MinimizeWrapper")
    optimizer.register_step_post_hook(lambda given, *_: noted.append(x.detach().clone()))
    result = optimizer.start(closure).wait(LONG)
    assert noted[-1].tolist() == result.x.tolist()
