"""The button "Why?" of the panel: there when a run stands still or is over, and its report below the figure."""

import threading

import torch

from torchmin_nb import MinimizeWrapper
from torchmin_nb.views.live_panel.sources import RunSource
from torchmin_nb.views.scene import Scene
from torchmin_nb.views.screens import epilogue
from torchmin_nb.views.session import scene_at


def a_run(**steering):
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer = MinimizeWrapper([x], dict(method="BFGS", options=dict(maxiter=8)))
    return optimizer.start(lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, **steering)


def labels(source):
    return [button.label for button in source.moment().buttons]


def examined(source):
    source.press("why", 1)
    for thread in threading.enumerate():
        if thread.name == "torchmin_nb why":
            thread.join(30)
    return source.moment()


def test_a_paused_run_is_asked_and_goes_on():
    run = a_run(iterations=3)
    run.wait_until_paused()
    source = RunSource(run, "BFGS", {})
    assert labels(source)[-1] == "Why?"
    moment = examined(source)
    assert "The run is paused" in moment.below
    assert all(button.enabled for button in moment.buttons)
    run.resume()
    run.wait()


def test_a_run_that_is_over_is_asked_and_the_report_stays():
    run = a_run()
    run.wait()
    source = RunSource(run, "BFGS", {})
    assert labels(source) == ["Why?"]
    moment = examined(source)
    assert "The budget is too small" in moment.below
    assert moment.over
    assert "The budget is too small" in epilogue(scene_at(Scene({}), moment))


def test_what_fails_is_told(monkeypatch):
    run = a_run()
    run.wait()
    source = RunSource(run, "BFGS", {})

    def fails():
        raise ValueError("<b>no")

    monkeypatch.setattr(run, "diagnose", fails)
    assert "ValueError: &lt;b&gt;no" in examined(source).below


def test_a_running_run_has_no_such_button():
    run = a_run(pace=0.5)
    source = RunSource(run, "BFGS", {})
    assert "Why?" not in labels(source)
    run.stop()
    run.wait()


ASK = "run.diagnose() says why"


def test_the_figure_that_stays_says_what_to_type_until_it_was_asked():
    run = a_run()
    run.wait()
    source = RunSource(run, "BFGS", {})
    assert source.moment().title.endswith(f" · {ASK}")
    assert ASK in scene_at(Scene({}), source.moment()).bundle()["text/plain"]
    assert ASK not in examined(source).title


def test_a_run_that_succeeded_or_was_stopped_or_has_no_closure_says_nothing():
    x = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    good = MinimizeWrapper([x], "BFGS").start(lambda: ((x - 3) ** 2).sum())
    good.wait()
    stopped = a_run(iterations=2)
    stopped.wait_until_paused()
    assert ASK not in RunSource(stopped, "BFGS", {}).moment().title
    stopped.stop()
    stopped.wait()
    without = a_run()
    without.wait()
    without._closure = None
    for run in (good, stopped, without):
        assert ASK not in RunSource(run, "BFGS", {}).moment().title
