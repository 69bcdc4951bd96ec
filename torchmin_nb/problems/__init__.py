"""Test problems for the methods: test functions and real data, without downloads, each with its known answer."""

from .._public import publish
from .gallery import PROBLEMS
from .mnist import Split, digits
from .problem import Problem, ProblemSpec, Setting

__all__ = ["PROBLEMS", "Problem", "ProblemSpec", "Setting", "Split", "digits"]


def __dir__() -> list[str]:
    return sorted(__all__)


publish(__name__)
