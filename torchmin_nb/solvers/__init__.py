"""What a solver of your own on the device is made of: a class with init, step and terminate, registered by `@method`.

Its options are keywords of its constructor, with defaults. All that it knows between two iterations is in its state: a
dataclass of tensors and numbers that begins with those of State, so that a run is saved, gone on from in another
process, and branched. `state` names the class of it. The problem counts, stops, scales, and rejects trials.

The spectral gradient method of Barzilai and Borwein (IMA J. Numer. Anal. 8, 1988), whole:

>>> import math
>>> from dataclasses import dataclass
>>> import torch
>>> from torchmin_nb import MinimizeWrapper, method, unregister
>>> from torchmin_nb.solvers import Ending, State
>>>
>>> @dataclass(slots=True, kw_only=True)
... class SpectralState(State):
...     rate: float
>>>
>>> @method("spectral-gradient")
... class SpectralGradient:
...     '''A gradient step whose length is the curvature of the last one: no line search.'''
...
...     state = SpectralState
...
...     def __init__(self, *, gtol=1e-6, rate=1e-3):
...         self.gtol, self.rate = gtol, rate
...
...     def init(self, problem):
...         return SpectralState(problem.evaluate(problem.start()), rate=self.rate)
...
...     def step(self, problem, state):
...         old = state.sample
...         new = problem.evaluate(old.x - state.rate * old.gradient)
...         s, y = new.x - old.x, new.gradient - old.gradient
...         ss, sy = torch.stack([s @ s, s @ y]).tolist()
...         rate = ss / sy if sy > 0 else self.rate
...         return SpectralState(new, state.iteration + 1, step_norm=math.sqrt(ss), rate=rate)
...
...     def terminate(self, problem, state):
...         return Ending(0, True, "The gradient is small.") if state.sample.largest <= self.gtol else None
>>>
>>> x = torch.nn.Parameter(torch.tensor([-1.0, 2.0], dtype=torch.float64))
>>> optimizer = MinimizeWrapper([x], "spectral-gradient")
>>> loss = optimizer.step(lambda: (x - 3).square() @ torch.tensor([1.0, 10.0], dtype=torch.float64))
>>> x.detach().round(decimals=3)
tensor([3., 3.], dtype=torch.float64)
>>> unregister("spectral-gradient")
"""

from .._public import publish
from ..core.runtime.control import Ending
from ..core.solvers.contract import Problem, Sample, Solver, State

__all__ = ["Ending", "Problem", "Sample", "Solver", "State"]


def __dir__() -> list[str]:
    return sorted(__all__)


publish(__name__, "torchmin_nb.core")
