"""compare: what its runs are, ranks and recommendations, the model as it was, and how it is steered."""

import math
import os
import signal
import threading

import pytest
import torch

from tests.explore.recommendations import FRESH, SUBJECTS, check
from tests.proof import PROOF
from torchmin_nb import Comparison, MinimizeWrapper, compare, method, unregister
from torchmin_nb.errors import ArgumentError, ArgumentTypeError, BusyError, UnknownMethodError

LONG = 60.0


def valley(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def start(*values):
    return torch.nn.Parameter(torch.tensor(values or (-1.2, 1.0), dtype=torch.float64))


class Net:
    """A small classifier with BatchNorm in evaluation mode, which has buffers."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
        self.inputs = torch.randn(60, 5, dtype=torch.float64)
        self.labels = torch.randint(3, (60,))

    def closure(self):
        weights = sum((p**2).sum() for p in self.model.parameters())
        return torch.nn.functional.cross_entropy(self.model(self.inputs), self.labels) + 1e-2 * weights


def test_the_runs_are_those_of_the_wrappers_and_ranks_follow_from_them():
    x, methods = start(), ["trust-ncg", "CG", "BFGS", "L-BFGS-B"]
    comparison = compare([x], lambda: valley(x), methods, budget=150, product_cost=2.0)
    spent = {}
    for name in methods:
        own = start()
        optimizer = MinimizeWrapper([own], name, start_check=False)
        optimizer.step(lambda own=own: valley(own))
        spent[name] = [(each.nfev + 2.0 * each.nhvp, each.loss) for each in optimizer.history]
    paid = {name: [(cost, loss) for cost, loss in events if cost <= 150] for name, events in spent.items()}
    first = float(valley(start().detach()))
    least = min(loss for events in paid.values() for _, loss in events)
    level = least + 1e-5 * (first - least)
    reached = {name: next((cost for cost, loss in events if loss <= level), math.inf) for name, events in paid.items()}
    assert {row.name: row.reached for row in comparison.rows} == reached
    for row in comparison.rows:
        assert row.loss == min(loss for _, loss in paid[row.name])
        assert [event.loss for event in row.history] == [loss for _, loss in spent[row.name]][: len(row.history)]
    assert comparison.best.name == min(reached, key=reached.get)
    assert comparison.best.name in comparison.recommendation
    assert comparison.table().splitlines()[2].split()[0] == comparison.best.name
    assert {row.ended.partition(":")[0] for row in comparison.rows} == {"Converged", "The budget is spent"}


def test_an_optimizer_of_torch_takes_the_steps_of_its_loop():
    x = start()
    comparison = compare([x], lambda: valley(x), [("Adam", dict(lr=0.05)), "torch.LBFGS"], budget=30)
    own, losses = start(), []
    adam = torch.optim.Adam([own], lr=0.05)
    for _ in range(30):
        adam.zero_grad()
        loss = valley(own)
        loss.backward()
        adam.step()
        losses.append(loss.item())
    row = next(row for row in comparison.rows if row.name == "torch.Adam (lr=0.05)")
    assert row.history.loss.tolist() == losses
    assert row.loss == min(losses)
    assert (row.evaluations, row.ended) == (30, "The budget is spent")
    lbfgs = next(row for row in comparison.rows if row.name == "torch.LBFGS")
    assert lbfgs.loss < row.loss


def test_the_model_is_as_it_was():
    net = Net()
    net.model.append(torch.nn.BatchNorm1d(3).double())
    net.closure().backward()  # moves the running statistics
    before = {name: value.clone() for name, value in net.model.state_dict().items()}
    gradients = [p.grad.clone() for p in net.model.parameters()]
    net.model.train()
    compare(net.model, net.closure, ["BFGS", "Adam"], budget=12, starts=2)
    assert all(torch.equal(value, before[name]) for name, value in net.model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.model.parameters(), gradients, strict=True))


def test_starts():
    net = Net()
    seen = []

    def reset():
        seen.append(len(seen))
        for layer in (net.model[0], net.model[2]):
            torch.manual_seed(len(seen))
            layer.reset_parameters()

    comparison = compare(net.model, net.closure, ["BFGS", "CG"], budget=25, starts=[reset, reset])
    assert len(seen) == 4
    assert {row.start for row in comparison.rows} == {0, 1, 2}
    moved = compare(net.model, net.closure, ["BFGS"], budget=3, starts=3, seed=5)
    firsts = [row.history[0].loss for row in sorted(moved.rows, key=lambda row: row.start)]
    assert len(set(firsts)) == 3
    again = compare(net.model, net.closure, ["BFGS"], budget=3, starts=3, seed=5)
    assert [row.history[0].loss for row in sorted(again.rows, key=lambda row: row.start)] == firsts


@pytest.fixture
def broken():
    @method("broken", needs="gradient")
    def descent(fun, x0, grad):
        yield x0
        raise ZeroDivisionError("as planned")

    yield "broken"
    unregister("broken")


def test_a_method_that_fails_or_diverges_is_a_row(broken):
    x = start()
    comparison = compare([x], lambda: valley(x), [broken, ("SGD", dict(lr=1e3)), "BFGS"], budget=100)
    rows = {row.name: row for row in comparison.rows}
    assert rows["broken"].failed
    assert "as planned" in rows["broken"].ended
    diverged = rows["torch.SGD (lr=1000.0)"]
    assert not diverged.failed
    assert diverged.loss == diverged.history[0].loss
    assert comparison.best.name == "BFGS"
    assert "ZeroDivisionError" in comparison.table()
    assert x.tolist() == [-1.2, 1.0]


def test_where_no_method_gets_lower_none_is_recommended(broken):
    x = start()
    comparison = compare([x], lambda: valley(x) * float("nan"), ["BFGS", broken], budget=10)
    assert comparison.recommendation.startswith("No method")
    assert not comparison.sure
    assert all(row.failed for row in comparison.rows)


PICKED = list(SUBJECTS) if PROOF else ["Himmelblau"]


@pytest.mark.parametrize("name", PICKED)
def test_where_it_is_sure_it_is_right(name):
    """From starts that were not seen, the recommended method is the best, or within 1.2 of it, on the whole."""
    found = check(name, fresh=FRESH if PROOF else 2)
    assert not found.sure or found.ratio <= 1.2


def test_it_is_not_sure_where_the_budget_decides():
    """Of two methods that both go on at the end, the first is the one that happened to be lower then."""
    x = start(*([-1.2, 1.0] * 5))
    closure = lambda: sum(valley(x[place : place + 2]) for place in range(0, 10, 2))  # noqa: E731
    methods = ["CG", ("Adam", dict(lr=1e-3))]
    short, whole = (compare([x], closure, methods, budget=budget, starts=5) for budget in (12, 250))
    assert (short.best.name, short.sure) == ("CG", False)
    assert "a larger one tells more" in short.recommendation
    assert (whole.best.name, whole.sure) == ("CG", True)


def test_it_is_not_sure_where_the_method_gets_stuck_from_some_starts():
    x = start(0.0)
    places = iter([0.9, -0.9] * 2)  # the minima are near 1 and −1, the second is much lower

    def place():
        x.data.fill_(next(places))

    closure = lambda: ((x**2 - 1) ** 2 + 0.3 * x).sum()  # noqa: E731
    comparison = compare([x], closure, ["BFGS"], starts=[place] * 4, budget=100)
    assert not comparison.sure
    assert "from some starts it ended at a loss of -0.305, from others at 0.294" in comparison.recommendation


@pytest.mark.parametrize(
    "methods", [["trust-ncg"], [("BFGS", dict(engine="torch", gtol=1e-6))], [("Adam", {"lr": 0.1})]]
)
@pytest.mark.parametrize("whole", [True, False])
def test_the_code_runs_as_printed(methods, whole):
    net = Net()
    model = net.model if whole else list(net.model.parameters())
    comparison = compare(model, net.closure, methods, budget=20)
    names = {"model": net.model, "parameters": list(net.model.parameters()), "closure": net.closure}
    before = float(net.closure().detach())
    exec(comparison.code, names)
    after = float(net.closure().detach())
    assert after < before
    assert after <= comparison.best.loss + 1e-9


def test_seconds():
    x = start()
    comparison = compare([x], lambda: valley(x), ["Nelder-Mead", "Adam"], seconds=0.3)
    adam = next(row for row in comparison.rows if row.name == "torch.Adam")
    assert adam.ended == "The budget is spent"
    assert all(row.reached <= 0.3 or row.reached == math.inf for row in comparison.rows)
    assert "seconds" in comparison.recommendation


# Steering


def slow(x, begun):
    def closure():
        begun.set()
        threading.Event().wait(0.01)
        return valley(x)

    return closure


def test_it_is_paused_resumed_and_stopped():
    x, begun = start(), threading.Event()
    comparison = compare([x], slow(x, begun), ["Adam", "BFGS"], budget=10_000, background=True)
    assert begun.wait(LONG)
    comparison.pause()
    (history,) = comparison.histories.values()
    for _ in range(200):
        count = len(history)
        threading.Event().wait(0.1)
        if len(history) == count:
            break
    assert len(history) == count
    assert not comparison.over
    with pytest.raises(TimeoutError, match="goes on"):
        comparison.wait(0.05)
    comparison.resume()
    comparison.stop()
    comparison.wait(LONG)
    assert comparison.over
    assert [row.name for row in comparison.rows] == ["torch.Adam"]
    assert "stopped" in comparison.recommendation
    assert not comparison.sure
    assert x.tolist() == [-1.2, 1.0]


def test_an_interrupt_leaves_the_rows_so_far():
    x, begun = start(), threading.Event()

    def interrupt():
        begun.wait(LONG)
        threading.Event().wait(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    comparison = compare([x], slow(x, begun), ["Adam", "BFGS"], budget=10_000)
    assert comparison.stopped
    assert len(comparison.rows) == 1
    assert x.tolist() == [-1.2, 1.0]


def test_an_interrupt_as_it_begins_leaves_nothing_under_way(monkeypatch):
    x, begin = start(), Comparison.start

    def interrupted(self):
        begin(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Comparison, "start", interrupted)
    comparison = compare([x], slow(x, threading.Event()), ["Adam"], budget=10_000)
    assert comparison.over
    assert comparison.stopped
    assert x.tolist() == [-1.2, 1.0]


def test_two_at_a_time():
    nets, begun = [Net(0), Net(1)], threading.Event()
    methods = ["BFGS", "L-BFGS-B"]
    together = [compare(net.model, net.closure, methods, budget=60, background=True) for net in nets]
    for net, comparison in zip(nets, together, strict=True):
        comparison.wait(LONG)
        alone = compare(net.model, net.closure, methods, budget=60)
        assert [(row.name, row.loss) for row in comparison.rows] == [(row.name, row.loss) for row in alone.rows]
    x = start()
    first = compare([x], slow(x, begun), ["Adam"], budget=10_000, background=True)
    with pytest.raises(BusyError, match="another comparison"):
        compare([x], lambda: valley(x), ["BFGS"])
    first.stop()
    first.wait(LONG)
    assert compare([x], lambda: valley(x), ["BFGS"]).best.loss < 1e-8


def test_a_run_that_moves_the_parameters_is_not_disturbed():
    x, begun = start(), threading.Event()
    run = MinimizeWrapper([x], "CG", start_check=False).start(slow(x, begun))
    with pytest.raises(BusyError, match="another run"):
        compare([x], lambda: valley(x), ["BFGS"])
    run.stop()
    run.wait()


# Display


def test_the_page(tmp_path):
    net = Net()
    comparison = compare(net.model, net.closure, ["BFGS", "Adam"], budget=20)
    page = comparison.write_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page
    for text in ("2 methods compared", comparison.best.name, "optimizer.step(closure)", "Plotly.newPlot"):
        assert text in page
    assert "<script src=" not in page
    assert comparison.best.name in comparison._repr_html_()
    assert repr(comparison).startswith("method")


def test_the_page_draws_over_what_the_budget_counts(tmp_path):
    x = start()
    comparison = compare([x], lambda: valley(x), ["BFGS", "trust-ncg"], budget=20, product_cost=2.5)
    assert comparison.axis == "closure calls + 2.5 × products"
    assert '"closure calls + 2.5 \\u00d7 products"' in comparison.write_html(tmp_path / "page.html")


REFUSED = {
    "no closure": (lambda x: compare([x], 3), ArgumentTypeError, "without arguments"),
    "no method": (lambda x: compare([x], lambda: valley(x), []), ArgumentError, "at least one method"),
    "a name alone": (lambda x: compare([x], lambda: valley(x), "BFGS"), ArgumentError, "must be a list"),
    "unknown": (lambda x: compare([x], lambda: valley(x), ["BFG"]), UnknownMethodError, "BFG"),
    "unknown in torch": (lambda x: compare([x], lambda: valley(x), ["torch.Adem"]), UnknownMethodError, "it has"),
    "no pair": (lambda x: compare([x], lambda: valley(x), [("BFGS", 3)]), ArgumentTypeError, "a pair"),
    "a setting": (lambda x: compare([x], lambda: valley(x), [("BFGS", dict(lr=1))]), ArgumentTypeError, "lr"),
    "a setting of torch": (lambda x: compare([x], lambda: valley(x), [("Adam", dict(lr=-1))]), ArgumentError, "Adam"),
    "a global one": (lambda x: compare([x], lambda: valley(x), ["shgo"]), ArgumentError, "a wrapper of its own"),
    "twins": (lambda x: compare([x], lambda: valley(x), ["BFGS", "BFGS"]), ArgumentError, "2 times"),
    "two budgets": (lambda x: compare([x], lambda: valley(x), budget=3, seconds=3), ArgumentError, "exclude"),
    "no budget": (lambda x: compare([x], lambda: valley(x), budget=0), ArgumentError, "budget"),
    "no start": (lambda x: compare([x], lambda: valley(x), starts=0), ArgumentError, "starts"),
    "no functions": (lambda x: compare([x], lambda: valley(x), starts=[3]), ArgumentTypeError, "starts"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    call, kind, text = REFUSED[case]
    x = start()
    with pytest.raises(kind, match=text):
        call(x)
    assert compare([x], lambda: valley(x), ["BFGS"], budget=5).over  # nothing is held
