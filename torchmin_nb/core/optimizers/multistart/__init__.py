"""A local method from many starts, in this process or in many: the runs, ranked, and the minima that they found."""

from .multistart import multistart
from .result import MultiStart, StartRun

__all__ = ["MultiStart", "StartRun", "multistart"]
