"""The words above the figure: badge, facts, progress, verdict, buttons."""

import pytest

from tests.views.histories import a_history
from torchmin_nb import History, Iteration
from torchmin_nb.core.execution.run import PAUSED, PENDING, RUNNING
from torchmin_nb.core.history.records import Totals
from torchmin_nb.core.history.verdict import verdict
from torchmin_nb.views.live_panel.header import buttons_of, header_of


def ended(message, *, method="trust-ncg", gradient=1e-3, success=False, dtype="float64", loss=1.0):
    history = History(method, dtype=dtype)
    history.append(Iteration(0, 10.0, grad_norm=5.0))
    history.append(Iteration(1, loss, grad_norm=gradient))
    totals = Totals(nfev=9, njev=9, nhev=0, nhvp=0, seconds=125.0)
    history.ended(success=success, status=0, message=message, loss=loss, totals=totals)
    return history


A_BAD_MODEL = "A bad approximation caused failure to predict improvement."
PRECISION = "Desired error not necessarily achieved due to precision loss."


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Optimization terminated successfully.", "Converged: the method's own test is met"),
        ("CONVERGENCE: RELATIVE REDUCTION OF F <= FACTR*EPSMCH", "Converged: the loss hardly changes any more (ftol)"),
        ("CONVERGENCE: NORM OF PROJECTED GRADIENT <= PGTOL", "Converged: the gradient is nearly zero"),
        ("Converged (|x_n-x_(n-1)| ~= 0)", "Converged: the steps have become tiny (xtol)"),
        ("`gtol` termination condition is satisfied.", "Converged: the gradient is nearly zero (gtol)"),
        ("Maximum number of iterations has been exceeded.", "Not converged yet: the iteration limit is reached"),
        ("STOP: TOTAL NO. OF ITERATIONS REACHED LIMIT", "Not converged yet: the iteration limit is reached"),
        (
            "The budget of closure calls (max_evaluations) is spent.",
            "Not converged yet: the limit of closure calls is reached",
        ),
        ("A linalg error occurred, such as a non-psd Hessian.", "Not converged: the Hessian is not positive definite"),
        ("Stopped on request.", "Stopped on request"),
    ],
)
def test_messages_in_plain_words_with_the_original_beside(message, words):
    found = verdict(ended(message))
    assert found.words.startswith(words)
    assert found.original == message


@pytest.mark.parametrize("message", [A_BAD_MODEL, PRECISION, "ABNORMAL: ", "Linear search failed"])
@pytest.mark.parametrize(
    ("gradient", "dtype", "good"),
    [(2.5e-8, "float64", True), (1e-3, "float64", False), (1e-3, "float32", True), (0.5, "float32", False)],
)
def test_an_ending_at_rounding_is_judged_by_the_gradient(message, gradient, dtype, good):
    words = verdict(ended(message, gradient=gradient, dtype=dtype)).words
    assert words == f"Converged as far as {dtype} allows" if good else words.startswith("Not converged: no lower point")


def test_without_a_gradient_rounding_is_only_told():
    assert verdict(ended(PRECISION, gradient=None)).words.startswith(("Stopped: rounding", "Not converged"))


def test_a_run_that_goes_on_has_no_verdict():
    assert verdict(a_history(ended=False)) == ("", "")


@pytest.mark.parametrize(
    ("history", "state", "badge", "tone"),
    [
        (a_history(ended=False), RUNNING, "running", ""),
        (a_history(ended=False), PAUSED, "paused", ""),
        (History("CG"), PENDING, "pending", ""),
        (History("CG"), None, "waiting", ""),
        (a_history(ended=False), None, "running", ""),
        (ended("Optimization terminated successfully.", success=True), None, "finished", "good"),
        (ended(PRECISION), None, "finished", "warning"),
    ],
)
def test_badge_and_tone(history, state, badge, tone):
    header = header_of(history, state)
    assert (header.badge, header.tone) == (badge, tone)


def test_an_error_is_an_alert():
    header = header_of(a_history(ended=False), "failed", error="ValueError: no data")
    assert (header.verdict, header.tone) == ("ValueError: no data", "error")


def facts(history, **limits):
    header = header_of(history, limits=limits)
    return dict(header.facts), header.progress


def test_the_numbers_are_those_of_the_last_iteration():
    found, progress = facts(a_history(length=11, ended=False))
    assert found == {
        "iteration": "10",
        "loss": "0.000976562",
        "last change": "−0.000977",
        "gradient norm": "0.273",
        "closure calls": "21",
        "time": "5.0 s",
    }
    assert progress is None


def test_progress_is_towards_the_nearest_limit():
    history = a_history(length=11, ended=False)
    history.options["maxiter"] = 40
    found, progress = facts(history, max_seconds=10.0)
    assert (found["iteration"], found["time"], progress) == ("10 / 40", "5.0 s / 10.0 s", 0.5)
    found, progress = facts(history, max_evaluations=28)
    assert (found["closure calls"], progress) == ("21 / 28", 0.75)


def test_maxiter_of_cobyla_counts_closure_calls():
    history = a_history("COBYLA", length=11, ended=False)
    history.options["maxiter"] = 42
    found, progress = facts(history)
    assert (found["iteration"], found["closure calls"], progress) == ("10", "21 / 42", 0.5)


def test_at_the_end_the_totals_are_told():
    found, _ = facts(ended(PRECISION))
    assert (found["closure calls"], found["time"]) == ("9", "2 min 05 s")


@pytest.mark.parametrize(
    ("state", "labels", "enabled"),
    [
        (RUNNING, ["Pause", "Step", "+10", "Stop"], [True, False, False, True]),
        (PAUSED, ["Resume", "Step", "+10", "Stop"], [True] * 4),
        (PENDING, ["Start", "Step", "+10", "Stop"], [True] * 4),
        ("finished", [], []),
        (None, [], []),
    ],
)
def test_the_buttons_by_state(state, labels, enabled):
    buttons = buttons_of(state)
    assert [button.label for button in buttons] == labels
    assert [button.enabled for button in buttons] == enabled
    assert all(button.tip for button in buttons)


def test_the_batch_that_is_under_way():
    history = a_history(2)
    assert "batch" not in [fact.name for fact in header_of(history).facts]
    history.progress.update(batch=37, batches=1100)
    assert header_of(history).facts[-1] == ("batch", "37 of 1,100")
    first = History("BFGS")
    first.progress.update(batch=2, batches=3)
    assert header_of(first, RUNNING).facts == (("batch", "2 of 3"),)
