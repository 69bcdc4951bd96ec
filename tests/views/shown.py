"""A front end that is not there: it notes what is displayed; and what a test needs to steer a run."""

import base64
import threading
from types import SimpleNamespace

import numpy as np
import torch

from torchmin_nb import MinimizeWrapper

PLOTLY = "application/vnd.plotly.v1+json"
LONG = 60.0
"""Seconds that a test waits for what should come at once, so that it fails and does not hang."""


class Cell:
    """Records what is displayed, and what displays are updated to. `ticker` makes tickers that only `tick` moves."""

    def __init__(self):
        self.shown, self.updates, self.tickers = [], [], []

    def display(self, shown, *, raw=False, display_id=None):
        self.shown.append(shown)
        place = len(self.shown) - 1
        return SimpleNamespace(update=lambda data, *, raw=False: self.updates.append((place, data)))

    def at(self, place):
        """What is seen now at this place."""
        return [self.shown[place], *(data for where, data in self.updates if where == place)][-1]

    def ticker(self, tick):
        """In place of a Ticker."""
        self.tickers.append(StillTicker(tick))
        return self.tickers[-1]

    def tick(self):
        """Let every ticker that goes tick once."""
        for ticker in self.tickers:
            if ticker.goes:
                ticker.tick()

    @property
    def ticking(self):
        """The number of tickers that go."""
        return sum(ticker.goes for ticker in self.tickers)

    def control(self, place, description):
        """The control that is displayed at this place, by its description."""
        (control,) = [each for each in self.shown[place].children if each.description == description]
        return control


class StillTicker:
    """A clock without a thread: the test ticks."""

    def __init__(self, tick):
        self.tick, self.started, self.stopped = tick, False, False

    def start(self):
        self.started = True

    def stop(self):
        self.stopped, self.tick = True, None

    @property
    def goes(self):
        return self.started and not self.stopped


class Clock:
    """Seconds that pass only when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Gate:
    """A closure of Rosenbrock's function that holds before call number `at`, and says when it is there."""

    def __init__(self, x, at=None):
        self.x, self.at, self.calls = x, at, 0
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self):
        self.calls += 1
        if self.calls == self.at:
            self.reached.set()
            assert self.go.wait(LONG)
        return rosenbrock(self.x)

    def hold(self, at):
        """Hold before this call; only while the run stands still."""
        self.at = at
        self.reached.clear()
        self.go.clear()


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def start_point():
    return torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))


def optimizer_of(x, *callbacks, method="trust-ncg", **keywords):
    return MinimizeWrapper([x], method, callbacks=callbacks, start_check=False, **keywords)


def stepped(*callbacks, method="trust-ncg", **keywords):
    """An optimizer that has made a short blocking run."""
    x = start_point()
    optimizer = optimizer_of(x, *callbacks, method=method, **keywords)
    optimizer.step(lambda: rosenbrock(x))
    return optimizer


def points(data, trace=0):
    """x and y of a trace of a static bundle, where arrays are stored as base64."""
    return [numbers(data[PLOTLY]["data"][trace][axis]) for axis in "xy"]


def numbers(stored):
    """An array of a figure's JSON."""
    if isinstance(stored, dict):
        return np.frombuffer(base64.b64decode(stored["bdata"]), stored["dtype"])
    return np.array(stored)


def title(data):
    """The title of a static bundle's figure."""
    return data[PLOTLY]["layout"]["title"]["text"]
