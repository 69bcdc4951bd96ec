"""torchmin_nb beside its peers and beside the floor: `python -m tests.benchmarks.bench [--quick] [--only SECTION]`.

torch runs on one thread, unless --torch-threads says otherwise: on a machine that others use too, its threads wait
for each other more than they work. The section on threads always takes torch's default.

The floor is the closure alone, as often as ours called it, plus Hessian-vector products alone, as often as ours
made them. Ratios are medians over interleaved rounds. Peers that are not installed are named and passed over:

    pip install pytorch-minimize autograd-minimize
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

from tests.benchmarks.contenders import METHODS, Outcome, ours
from tests.benchmarks.measure import Row, compare, rounds, show
from tests.benchmarks.on_device import device_table, inner_table, memory
from tests.benchmarks.problems import Problem, digits_softmax, logistic, mlp
from tests.benchmarks.profiles import run_all
from tests.benchmarks.scaling import scaling_table
from tests.benchmarks.watching import in_kernel, in_process
from torchmin_nb import LeastSquaresWrapper, MinimizeWrapper
from torchmin_nb.core.autodiff.closure import evaluate_curvature
from torchmin_nb.core.autodiff.hessian import DenseHessian
from torchmin_nb.core.display.tables import text_table
from torchmin_nb.core.parameters.flat import FlatParameters
from torchmin_nb.problems import Problem as GalleryProblem
from torchmin_nb.problems.pinn import POISSON


class Effort(NamedTuple):
    """How much to measure: rounds of each comparison, and a share of the iterations."""

    repeats: int
    share: float

    def iterations(self, full: int) -> int:
        return max(2, round(full * self.share))


_DEFAULT_THREADS = torch.get_num_threads()
FULL, QUICK = Effort(5, 1.0), Effort(1, 0.2)


def small(effort: Effort) -> None:
    budgets = {"L-BFGS": 100, "CG": 100, "BFGS": 20, "Newton-CG": 15, "trust-ncg": 15}
    _compare_all(mlp((20, 30, 10), 200), budgets, effort)


def digits(effort: Effort) -> None:
    try:
        problem = digits_softmax()
    except ImportError as error:
        print(f"\ndigits: skipped: {error}")
        return
    _compare_all(problem, {"L-BFGS": 40, "Newton-CG": 5, "trust-ncg": 8}, effort)


def large(effort: Effort) -> None:
    """Random inputs, float32: what the way between torch and SciPy costs when vectors are long."""
    budgets = {"L-BFGS": 15, "trust-ncg": 4}
    _compare_all(mlp((784, 126, 10), 200, torch.float32), budgets, effort)
    _compare_all(mlp((784, 1258, 10), 200, torch.float32), budgets, effort)


def device(effort: Effort) -> None:
    print("\nThe time of engine='torch' over that of the other, below 1 if it is faster\n")
    rounds = max(1, round(7 * effort.share))
    print(device_table(rounds, effort.share))
    print(inner_table(rounds, effort.share))
    print(memory())


def poisson(effort: Effort) -> None:
    """The PINN of the gallery: relative L2 error of the solution, by seed and method. Losses are no measure here."""
    iterations = effort.iterations(3000)
    by = {
        "torch.optim.LBFGS": lambda made: _torch_lbfgs(made, iterations),
        **{
            name: partial(_by, method=name, iterations=iterations)
            for name in ("L-BFGS-B", "BFGS", "SSBFGS", "SSBroyden")
        },
        "gauss-newton, 200 iterations": partial(_by, method="gauss-newton", iterations=effort.iterations(200)),
    }
    rows = [("", *(f"seed {seed}" for seed in range(effort.repeats)), "median", "s")]
    for name, solve in by.items():
        errors, begun = [], time.perf_counter()
        for seed in range(effort.repeats):
            made = POISSON.make(seed=seed)
            solve(made)
            errors.append(made.measures()["relative L2 error"])
        seconds = (time.perf_counter() - begun) / effort.repeats
        rows.append((name, *(f"{error:.1e}" for error in errors), f"{median(errors):.1e}", f"{seconds:.1f}"))
    print(f"\nPoisson PINN, float64, {iterations} iterations: relative L2 error\n")
    print(text_table(rows))


def hessian(effort: Effort) -> None:
    """One dense Hessian."""
    problem = mlp((20, 30, 10), 200)
    builders: dict[str, Callable[[], torch.Tensor]] = {
        "torchmin_nb": lambda: _our_hessian(problem),
        "torch.autograd.functional.hessian": lambda: _functional_hessian(problem, vectorize=False),
        "  the same, vectorize=True": lambda: _functional_hessian(problem, vectorize=True),
        "torch.func.hessian": lambda: torch.func.hessian(problem.loss_at_vector)(_vector(problem)),
        "a loop of products, one row at a time": lambda: _row_by_row(problem),
    }
    reference = _our_hessian(problem)
    deviations = {name: float((build() - reference).abs().max()) for name, build in builders.items()}
    times = rounds({name: _stopwatch(build) for name, build in builders.items()}, effort.repeats)
    show(f"Dense Hessian: {problem.name}, {problem.n:,} parameters", _rows(times, "torchmin_nb"))
    print(f"largest difference of an entry from ours: {max(deviations.values()):.1e}")


def threads(effort: Effort) -> None:
    """Whether BLAS threads help or hurt: the same run with the limit and without."""
    problem = logistic(20, 10, 500)
    for name, method in {"L-BFGS-B": "L-BFGS", "BFGS": "BFGS", "SLSQP": "SLSQP"}.items():
        spec = METHODS.get(method, METHODS["CG"]._replace(scipy="SLSQP", scipy_options={"ftol": 1e-12}))
        run = partial(ours, problem, spec, effort.iterations(40))
        actions = {f"blas_threads={limit!r}": partial(_limited, run, limit) for limit in ("auto", None)}
        times = rounds(actions, effort.repeats)
        show(
            f"{name}: {problem.name}, {effort.iterations(40)} iterations",
            _rows(times, "blas_threads='auto'"),
            first="auto",
        )


def watching(effort: Effort) -> None:
    calls = effort.iterations(1500)
    show(f"Watching {calls} closure calls of about 1 ms", in_process(calls, effort.repeats), first="unwatched")
    print(in_kernel(effort.iterations(100_000)))


def scaling(effort: Effort) -> None:
    print("\nAn iteration without its closure calls and products, in closure calls: MLPs, 200 samples, float64\n")
    print(scaling_table(effort.repeats))


def profiles(effort: Effort) -> None:
    """Over the published sets; the whole run writes record, tables and pictures, a quick one prints shares only."""
    run_all(effort.share)


SECTIONS: dict[str, Callable[[Effort], None]] = {
    "small": small,
    "digits": digits,
    "large": large,
    "device": device,
    "poisson": poisson,
    "hessian": hessian,
    "threads": threads,
    "watching": watching,
    "scaling": scaling,
    "profiles": profiles,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, a fifth of the iterations")
    parser.add_argument("--only", choices=SECTIONS, help="one section")
    parser.add_argument("--torch-threads", type=int, default=1, help="for all sections but threads; 1 if not given")
    given = parser.parse_args()
    for name in [given.only] if given.only else SECTIONS:
        print(f"\n=== {name} ===")
        with torch_threads(_DEFAULT_THREADS if name == "threads" else given.torch_threads):
            SECTIONS[name](QUICK if given.quick else FULL)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _compare_all(problem: Problem, budgets: Mapping[str, int], effort: Effort) -> None:
    for method, full in budgets.items():
        iterations = effort.iterations(full)
        title = f"{method}, {iterations} iterations: {problem.name}, {problem.n:,} parameters"
        show(title, compare(problem, method, iterations, effort.repeats))


def _by(made: GalleryProblem, *, method: str, iterations: int) -> None:
    if method == "gauss-newton":
        optimizer = LeastSquaresWrapper(made.parameters, {"method": method, "max_iter": iterations, "max_nfev": 10**6})
        optimizer.step(made.residuals)
        return
    options = {"maxiter": iterations, "gtol": 0.0} | ({"maxcor": 50, "ftol": 0.0} if method == "L-BFGS-B" else {})
    optimizer = MinimizeWrapper(made.parameters, {"method": method, "options": options}, engine="torch")
    optimizer.step(made.closure)


def _torch_lbfgs(made: GalleryProblem, iterations: int) -> None:
    optimizer = torch.optim.LBFGS(
        made.parameters,
        max_iter=iterations,
        max_eval=25 * iterations,
        history_size=50,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = made.closure()
        loss.backward()
        return loss

    optimizer.step(closure)


def _limited(run: Callable[..., Outcome], limit: str | None) -> float:
    return run(blas_threads=limit).seconds


def _rows(times: Mapping[str, list[float]], reference: str) -> list[Row]:
    return [
        Row(
            name,
            1e3 * median(seconds),
            median(one / other for one, other in zip(seconds, times[reference], strict=True)),
        )
        for name, seconds in times.items()
    ]


def _stopwatch(action: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        begun = time.perf_counter()
        action()
        return time.perf_counter() - begun

    return timed


def _vector(problem: Problem) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(problem.model.parameters()).detach()


def _our_hessian(problem: Problem) -> torch.Tensor:
    model = problem.fresh()
    flat = FlatParameters(list(model.parameters()))
    result = evaluate_curvature(problem.closure(model), flat)
    assert result.graph is not None
    return DenseHessian(flat.n).build(result.graph, flat.n, lambda: None)


def _functional_hessian(problem: Problem, *, vectorize: bool) -> torch.Tensor:
    return torch.autograd.functional.hessian(problem.loss_at_vector, _vector(problem), vectorize=vectorize)


def _row_by_row(problem: Problem) -> torch.Tensor:
    x = _vector(problem).requires_grad_()
    (gradient,) = torch.autograd.grad(problem.loss_at_vector(x), x, create_graph=True)
    units = torch.from_numpy(np.eye(problem.n))
    return torch.stack([torch.autograd.grad(gradient, x, unit, retain_graph=True)[0] for unit in units])


if __name__ == "__main__":
    main()
