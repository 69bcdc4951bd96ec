"""SOLVERS: the class of each solver on the device, and of its state, by the name of the method."""

from __future__ import annotations

from typing import Any, NamedTuple

from .bfgs import BFGS, BFGSState
from .cg import CG, CGState
from .contract import State
from .dogleg import Dogleg
from .gauss_newton import GaussNewton, GaussNewtonState
from .lbfgsb import LBFGSB, LBFGSBState
from .levenberg_marquardt import LevenbergMarquardt, LevenbergMarquardtState
from .newton_cg import NewtonCG, NewtonCGState
from .self_scaled import SSBFGS, SelfScaledState, SSBroyden
from .trust_exact import TrustExact
from .trust_krylov import TrustKrylov
from .trust_ncg import TrustNCG
from .trust_region import TrustRegionState

__all__ = ["SOLVERS", "SolverSpec"]


class SolverSpec(NamedTuple):
    """solver: called with the options as keywords. state: what a saved state is read as."""

    solver: type[Any]
    state: type[State]


SOLVERS: dict[str, SolverSpec] = {
    "CG": SolverSpec(CG, CGState),
    "BFGS": SolverSpec(BFGS, BFGSState),
    "L-BFGS-B": SolverSpec(LBFGSB, LBFGSBState),
    "SSBFGS": SolverSpec(SSBFGS, SelfScaledState),
    "SSBroyden": SolverSpec(SSBroyden, SelfScaledState),
    "Newton-CG": SolverSpec(NewtonCG, NewtonCGState),
    "dogleg": SolverSpec(Dogleg, TrustRegionState),
    "trust-ncg": SolverSpec(TrustNCG, TrustRegionState),
    "trust-krylov": SolverSpec(TrustKrylov, TrustRegionState),
    "trust-exact": SolverSpec(TrustExact, TrustRegionState),
    "lm": SolverSpec(LevenbergMarquardt, LevenbergMarquardtState),
    "gauss-newton": SolverSpec(GaussNewton, GaussNewtonState),
}
