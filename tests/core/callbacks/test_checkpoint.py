"""Checkpoint: what a dead kernel leaves is enough to go on, whole at every moment, and never less than before."""

import copy
import os
import shutil
import signal

import numpy as np
import pytest
import torch

from tests.core.killing import process
from torchmin_nb import Checkpoint, History, LeastSquaresWrapper, MinimizeWrapper
from torchmin_nb.errors import (
    ArgumentError,
    ArgumentTypeError,
    BusyError,
    ParameterError,
    StartWarning,
    StorageError,
    StorageWarning,
)

LONG = 20.0


class Clock:
    """Seconds that pass only when a test says so, and `step` at each look."""

    def __init__(self, step=0.0):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


class Net(torch.nn.Module):
    """Two layers with a buffer between them."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.first, self.last = torch.nn.Linear(2, 4, dtype=dtype), torch.nn.Linear(4, 1, dtype=dtype)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.inputs = torch.linspace(-1, 1, 20, dtype=dtype).reshape(10, 2)

    def loss(self):
        self.calls += 1
        return ((self.last(torch.tanh(self.first(self.inputs))) - self.inputs.prod(1, keepdim=True)) ** 2).mean()


def leaf():
    return torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.pt"


# What is saved


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["trust-ncg", "Nelder-Mead"])
def test_the_end_of_a_run_is_saved_whole(method, dtype, path):
    model = Net(dtype)
    optimizer = MinimizeWrapper(
        model.named_parameters(), method, callbacks=Checkpoint(path, model), max_evaluations=40, keep_evaluations=True
    )
    optimizer.step(model.loss)
    assert torch.load(path, weights_only=True)["loss"] == optimizer.result.fun
    saved = Checkpoint.load(path)
    assert saved.history == optimizer.history
    assert saved.history.message == optimizer.result.message
    assert saved.loss == optimizer.result.fun
    assert saved.best_loss == min(each.loss for each in optimizer.history.evaluations)
    assert saved.model.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(saved.model[name], value), name
    for value, parameter in zip(saved.parameters, model.parameters(), strict=True):
        assert (value.dtype, torch.equal(value, parameter)) == (dtype, True)


def test_the_best_point_is_saved_beside_the_end_point(path):
    x = leaf()
    optimizer = LeastSquaresWrapper([x], "trf", callbacks=Checkpoint(path), keep_parameters=True)
    optimizer.step(lambda: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
    saved = Checkpoint.load(path)
    assert saved.model is None
    assert saved.best[0].tolist() == optimizer.history.parameters[optimizer.history.loss.argmin()].tolist()
    assert saved.parameters[0].tolist() == optimizer.result.x.tolist()


def test_it_saves_when_it_is_time(path):
    clock, x, found = Clock(), leaf(), []

    def look(iteration):
        found.append(len(Checkpoint.load(path).history) if path.exists() else 0)
        clock.now += 1

    checkpoint = Checkpoint(path, every=5, clock=clock)
    MinimizeWrapper([x], "trust-ncg", callbacks=[checkpoint, look]).step(lambda: rosenbrock(x))
    assert len(found) > 17
    assert found[:18] == [0] * 5 + [5] * 5 + [10] * 5 + [15] * 3
    assert len(Checkpoint.load(path).history) == len(found)


def test_saving_takes_no_more_than_a_twentieth_of_the_time(path, monkeypatch):
    clock, x, saves, save = Clock(), leaf(), [], torch.save

    def slow(state, file):
        saves.append(clock.now)
        save(state, file)
        clock.now += 1

    def tick(iteration):
        clock.now += 1

    monkeypatch.setattr(torch, "save", slow)
    checkpoint = Checkpoint(path, every=2, clock=clock)
    optimizer = MinimizeWrapper([x], "Nelder-Mead", callbacks=[checkpoint, tick])
    optimizer.step(lambda: rosenbrock(x))
    assert saves[:4] == [2, 22, 42, 62]


def test_within_an_iteration_the_last_iterate_is_saved(path):
    model, clock, trials = Net(), Clock(), []
    checkpoint = Checkpoint(path, model, every=1, clock=clock)

    def closure():
        loss = model.loss()
        trials.append([p.detach().clone() for p in model.parameters()])
        clock.now += len(trials) == 8  # Powell's first iteration is longer
        if len(trials) == 9:
            raise ZeroDivisionError
        return loss

    seen = []
    checkpoint.on_release = lambda optimizer: seen.append(Checkpoint.load(path))
    optimizer = MinimizeWrapper(
        model.parameters(), "Powell", callbacks=[checkpoint], keep_evaluations=True, start_check=False
    )
    with pytest.raises(ZeroDivisionError):
        optimizer.step(closure)
    (saved,) = seen
    assert (len(saved.history), saved.history.message) == (1, None)
    losses = [each.loss for each in optimizer.history.evaluations]
    assert saved.best_loss == min(losses) < losses[0]
    for kept, values in ((saved.parameters, trials[0]), (saved.best, trials[int(np.argmin(losses))])):
        assert all(torch.equal(a, b) for a, b in zip(kept, values, strict=True))
    assert torch.equal(saved.model["first.weight"], trials[0][0])
    assert not torch.equal(trials[7][0], trials[0][0])
    assert saved.model["calls"] == 8


# Going on


KILLED = """
import sys, time, torch
from torchmin_nb import Checkpoint, MinimizeWrapper
sys.path.insert(0, ".")
from tests.core.callbacks.test_checkpoint import Clock, Net
torch.manual_seed(0)
model, clock, calls = Net(), Clock(), []

def closure():
    calls.append(1)
    clock.now += 1
    if len(calls) == 12:
        print("here", flush=True)
        time.sleep(1000)
    return model.loss()

checkpoint = Checkpoint(sys.argv[1], model, every=1, clock=clock)
MinimizeWrapper(model.parameters(), sys.argv[2], callbacks=[checkpoint]).step(closure)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(path):
    with process(KILLED, path, "trust-ncg") as running:
        assert running.stdout.readline() == "here\n", running.stderr.read()
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
    torch.manual_seed(0)
    whole = Net()
    uninterrupted = MinimizeWrapper(whole.parameters(), dict(method="trust-ncg", options=dict(maxiter=40)))
    uninterrupted.step(whole.loss)

    saved = Checkpoint.load(path)
    done = len(saved.history)
    assert 3 < done < len(uninterrupted.history)
    assert saved.history.message is None
    model = Net()
    optimizer = MinimizeWrapper(model.parameters(), dict(method="trust-ncg", options=dict(maxiter=41 - done)))
    model.load_state_dict(saved.model)
    optimizer.load_state_dict(saved.optimizer)
    optimizer.step(model.loss)
    assert saved.history.loss.tolist() == uninterrupted.history.loss[:done].tolist()
    assert optimizer.history.loss.tolist() == uninterrupted.history.loss[done - 1 :].tolist()
    assert optimizer.history.trust_radius.tolist() == uninterrupted.history.trust_radius[done - 1 :].tolist()


@pytest.mark.parametrize("best", [False, True])
def test_restore_puts_parameters_and_state_back(best, path):
    x, y = leaf(), leaf()
    first = MinimizeWrapper([x], "trust-exact", callbacks=Checkpoint(path), max_evaluations=9)
    first.step(lambda: rosenbrock(x))
    saved = Checkpoint.load(path)
    second = MinimizeWrapper([y], "trust-exact")
    saved.restore(second, best=best)
    assert torch.equal(y.detach(), (saved.best if best else saved.parameters)[0])
    assert (second.history, second.result.nfev) == (first.history, first.result.nfev)
    second.step(lambda: rosenbrock(y))
    assert second.history[0].trust_radius == first.history[-1].trust_radius
    assert second.result.fun < 1e-8


def test_what_is_lost_by_a_kill_is_named(path):
    x, y = leaf(), leaf()
    checkpoint = Checkpoint(path, every=1, clock=Clock(step=1.0))
    run = MinimizeWrapper([x], "BFGS", callbacks=checkpoint).start(lambda: rosenbrock(x), iterations=5)
    assert run.wait_until_paused(LONG)
    saved = Checkpoint.load(path)
    run.stop()
    run.wait(LONG)
    optimizer = MinimizeWrapper([y], "BFGS")
    saved.restore(optimizer)
    with pytest.warns(StartWarning, match="continues from the loaded point without its memory"):
        optimizer.step(lambda: rosenbrock(y))
    assert optimizer.history[0].loss == saved.loss


def test_another_models_checkpoint_is_refused(path):
    x, other = leaf(), torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    MinimizeWrapper([x], "BFGS", callbacks=Checkpoint(path)).step(lambda: rosenbrock(x))
    optimizer = MinimizeWrapper([other], "BFGS")
    with pytest.raises(ParameterError, match=r"shapes \[\(2,\)\], the optimizer has \[\(3,\)\]"):
        Checkpoint.load(path).restore(optimizer)
    assert (other.tolist(), len(optimizer.history)) == ([0, 0, 0], 0)


# A good checkpoint is not lost


def test_the_checkpoint_of_an_earlier_run_is_kept_aside(path, tmp_path):
    x = leaf()
    optimizer = MinimizeWrapper([x], "CG", callbacks=Checkpoint(path, every=1, clock=Clock(step=1.0)))
    optimizer.step(lambda: rosenbrock(x))
    first = path.read_bytes()
    assert os.listdir(tmp_path) == ["fit.pt"]
    optimizer.step(lambda: rosenbrock(x))
    assert sorted(os.listdir(tmp_path)) == ["fit.pt", "fit.pt.previous"]
    assert (tmp_path / "fit.pt.previous").read_bytes() == first != path.read_bytes()


def test_a_run_that_cannot_begin_leaves_the_old_one(path):
    x = leaf()
    optimizer = MinimizeWrapper([x], "CG", callbacks=Checkpoint(path))
    optimizer.step(lambda: rosenbrock(x))
    kept = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    assert path.read_bytes() == kept
    optimizer.step(lambda: rosenbrock(x))  # and it serves again


def test_a_run_that_fails_leaves_its_best_point(path):
    x, calls = leaf(), []

    def closure():
        calls.append(1)
        return rosenbrock(x) if len(calls) < 12 else 1 / 0

    optimizer = MinimizeWrapper([x], "Nelder-Mead", callbacks=Checkpoint(path))
    with pytest.raises(ZeroDivisionError):
        optimizer.step(closure)
    saved = Checkpoint.load(path)
    assert "ZeroDivisionError" in saved.history.message
    assert torch.equal(saved.best[0], x.detach())


@pytest.mark.parametrize("gone", [True, False])
def test_a_disk_that_fails_drops_the_checkpoint_with_one_warning(gone, path, tmp_path, monkeypatch):
    x, saved, clock = leaf(), [], Clock(step=1.0)

    def half(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    def fail(iteration):
        if iteration.index == 5:
            saved.append(path.read_bytes())
            if gone:
                shutil.rmtree(tmp_path)
            else:
                monkeypatch.setattr(torch, "save", half)

    optimizer = MinimizeWrapper([x], "CG", callbacks=[Checkpoint(path, every=1, clock=clock), fail])
    with pytest.warns(
        StorageWarning, match=r"was dropped, the run continues: .*the last complete one remains"
    ) as warned:
        optimizer.step(lambda: rosenbrock(x))
    assert (len(warned), optimizer.result.success) == (1, True)
    if not gone:
        assert os.listdir(tmp_path) == ["fit.pt"]
        assert path.read_bytes() == saved[0]


# Refusals


def test_paths_and_values_that_cannot_be_are_refused_at_once(path, tmp_path):
    for wrong in (tmp_path / "missing" / "fit.pt", tmp_path):
        with pytest.raises(StorageError, match="cannot be written"):
            Checkpoint(wrong)
    with pytest.raises(ArgumentError, match="every must be a positive number"):
        Checkpoint(path, every=0)
    with pytest.raises(ArgumentTypeError, match="got list"):
        Checkpoint(path, [leaf()])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", ["text", "tensor", "pickle"])
def test_a_file_of_something_else_is_refused_and_left_alone(content, path):
    if content == "text":
        path.write_text("my notes")
    else:
        torch.save(torch.ones(3) if content == "tensor" else Clock(), path)
    kept = path.read_bytes()
    for use in (Checkpoint, Checkpoint.load):
        with pytest.raises(StorageError, match="is not a readable checkpoint"):
            use(path)
    assert path.read_bytes() == kept


def test_a_model_whose_state_would_not_load_is_refused(path):
    class Odd(torch.nn.Module):
        def get_extra_state(self):
            return Clock()

    with pytest.raises(StorageError, match="'_extra_state' is Clock, which torch"):
        Checkpoint(path, Odd())


def test_a_folder_that_is_gone_is_refused_before_any_work(path, tmp_path):
    x, calls = leaf(), []
    optimizer = MinimizeWrapper([x], "trust-ncg", callbacks=Checkpoint(path))
    shutil.rmtree(tmp_path)
    with pytest.raises(StorageError, match="cannot be written: No such file"):
        optimizer.step(lambda: calls.append(1))
    assert not calls


def test_one_checkpoint_keeps_one_run_at_a_time(path):
    x, y = leaf(), leaf()
    checkpoint = Checkpoint(path)
    first, second = (MinimizeWrapper([each], "CG", callbacks=checkpoint) for each in (x, y))
    run = first.start(lambda: rosenbrock(x), iterations=2)
    assert run.wait_until_paused(LONG)
    with pytest.raises(BusyError, match="create one for each run"):
        second.step(lambda: rosenbrock(y))
    copied = copy.deepcopy(checkpoint)
    run.resume()
    run.wait(LONG)
    assert Checkpoint.load(path).history == first.history
    third = MinimizeWrapper([y], "CG", callbacks=copied)
    third.step(lambda: rosenbrock(y))
    assert Checkpoint.load(path).history == third.history


def test_without_an_optimizer_it_says_so(path):
    with pytest.raises(ArgumentTypeError, match="else use HistoryFile"):
        Checkpoint(path).on_start(History())


def test_binding_is_undone_when_another_callback_refuses(path):
    told, x = [], leaf()

    class Bound:
        def __init__(self, name):
            self.name = name

        def on_bind(self, optimizer):
            told.append(("bind", self.name))
            if self.name == "no":
                raise StorageError("not here")

        def on_release(self, optimizer):
            told.append(("release", self.name, optimizer.result is None))

        def __call__(self, iteration):
            return True

    calls = []
    optimizer = MinimizeWrapper([x], "trust-ncg", callbacks=[Bound("first"), Checkpoint(path), Bound("no")])
    with pytest.raises(StorageError, match="not here"):
        optimizer.step(lambda: calls.append(1))
    assert (told, calls) == ([("bind", "first"), ("bind", "no"), ("release", "first", True)], [])
    told.clear()
    del optimizer.callbacks[2]
    optimizer.step(lambda: rosenbrock(x))
    assert told == [("bind", "first"), ("release", "first", False)]
    assert len(Checkpoint.load(path).history) == 1
