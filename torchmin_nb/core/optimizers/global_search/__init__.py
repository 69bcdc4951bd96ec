"""SciPy's global optimizers on the same closure, events and History as the local methods."""

from ...methods.global_search import GLOBAL_METHODS, GlobalSpec
from .basinhopping import BasinHoppingWrapper
from .brute import BruteWrapper
from .differential_evolution import DifferentialEvolutionWrapper
from .direct import DirectWrapper
from .dual_annealing import DualAnnealingWrapper
from .shgo import SHGOWrapper

__all__ = [
    "GLOBAL_METHODS",
    "BasinHoppingWrapper",
    "BruteWrapper",
    "DifferentialEvolutionWrapper",
    "DirectWrapper",
    "DualAnnealingWrapper",
    "GlobalSpec",
    "SHGOWrapper",
]
