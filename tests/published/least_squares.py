"""Published least-squares problems, solved here and by plain SciPy: `python -m tests.published.least_squares`.

strd: parameters to six digits of those that NIST certifies, under tight tolerances. mgh: minima, with the defaults.
pinn: errors of the gallery's Poisson PINN after 200 iterations from ten seeds, where there is no SciPy to compare with.
Our side is LeastSquaresWrapper(engine="torch"), in float64.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray

from torchmin_nb import LeastSquaresWrapper
from torchmin_nb.core.display.tables import text_table
from torchmin_nb.core.runtime.blas_threads import blas_threads
from torchmin_nb.problems import PROBLEMS

from .more_garbow_hillstrom import MGH
from .nist_strd import STRD

__all__ = ["Fit", "fits_of", "main", "ours", "pinn_errors", "plain"]

Tensor = torch.Tensor
DIGITS = 6
SETS = ("strd", "mgh", "pinn")


class Fit(NamedTuple):
    """Residuals of x (n,), from a start. solved: x to whether it is a solution."""

    name: str
    residuals: Callable[[Tensor], Tensor]
    start: Tensor
    solved: Callable[[Tensor], bool]
    options: Mapping[str, Any]


class Ending(NamedTuple):
    """How a run ended, with the number of evaluations."""

    solved: bool
    cost: float
    calls: int
    message: str


def fits_of(name: str) -> list[Fit]:
    """The problems of "strd" or "mgh"."""
    if name == "mgh":
        rows = [(row.name, row, torch.tensor(row.start, dtype=torch.float64)) for row in MGH.values()]
        return [
            Fit(title, row.residuals, start, lambda x, row=row: row.solved(row.loss(x).item()), {})
            for title, row, start in rows
        ]
    tight = dict(ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=20_000)
    return [
        Fit(f"{row.name}, {side}", row.residuals, start, lambda b, row=row: row.digits(b) >= DIGITS, tight)
        for row in STRD.values()
        for side, start in zip(("far", "near"), row.starts, strict=True)
    ]


def ours(fit: Fit, method: str) -> Ending:
    """torchmin_nb's run on the device."""
    x = torch.nn.Parameter(fit.start.clone())
    optimizer = LeastSquaresWrapper([x], {"method": method, **fit.options}, engine="torch")
    try:
        optimizer.step(lambda: fit.residuals(x))
    except Exception as error:
        return Ending(False, np.nan, 0, f"{type(error).__name__}: {error}")
    result = optimizer.result
    return Ending(fit.solved(x.detach()), float(result.cost), result.nfev, str(result.message))


def plain(fit: Fit) -> Ending:
    """SciPy's lm, with derivatives by autograd."""

    def values(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return fit.residuals(torch.tensor(x)).numpy()

    def jacobian(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return torch.func.jacrev(fit.residuals)(torch.tensor(x)).numpy()

    result = scipy.optimize.least_squares(values, fit.start.numpy(), jacobian, method="lm", **fit.options)
    return Ending(fit.solved(torch.tensor(result.x)), float(result.cost), result.nfev, str(result.message))


def pinn_errors(seeds: Sequence[int], iterations: int) -> list[float]:
    """The relative L2 errors of the Poisson PINN by gauss-newton."""
    errors = []
    for seed in seeds:
        problem = PROBLEMS["Poisson PINN"].make(seed=seed)
        arguments = {"method": "gauss-newton", "max_iter": iterations}
        LeastSquaresWrapper(problem.parameters, arguments, engine="torch").step(problem.residuals)
        assert problem.measures is not None
        errors.append(problem.measures()["relative L2 error"])
        print(f"seed {seed}: {errors[-1]:.2g}", flush=True)
    return errors


def _compared(name: str) -> None:
    fits = fits_of(name)
    sides = {
        "SciPy's lm": [plain(fit) for fit in fits],
        **{f"{method} on the device": [ours(fit, method) for fit in fits] for method in ("lm", "gauss-newton")},
    }
    rows = [
        (side, str(sum(e.solved for e in found)), str(sum(e.calls for e in found))) for side, found in sides.items()
    ]
    print(f"\n{name}, {len(fits)} problems")
    print(text_table([("", "solved", "calls"), *rows]))
    for side, found in sides.items():
        for fit, end in zip(fits, found, strict=True):
            if not end.solved:
                print(f"{side}: {fit.name}: not solved, {end.cost:.6g}, {end.calls} calls, {end.message}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", dest="sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=range(10), help="of the PINN")
    parser.add_argument("--iterations", type=int, default=200, help="of the PINN")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    with warnings.catch_warnings(), blas_threads(1), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for name in asked.sets:
            if name != "pinn":
                _compared(name)
                continue
            print(f"\nPoisson PINN, relative L2 error after {asked.iterations} iterations of gauss-newton")
            errors = pinn_errors(asked.seeds, asked.iterations)
            print(f"median {statistics.median(errors):.2g}, worst {max(errors):.2g}")


if __name__ == "__main__":
    main()
