"""Scripts do again what the run did: executed in one fresh interpreter, compared with the runs."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from torchmin_nb import Constraint, method
from torchmin_nb.explore import Call, of_function, of_model, run, script, unregister

CALLS = {
    "plain": Call("Rosenbrock", "trust-ncg"),
    "options and tol": Call("Wood", "BFGS", options={"c2": 0.5, "norm": 2}, tol=1e-7),
    "settings, seed and start": Call("Quadratic", "CG", {"n": 5, "condition": 1e3}, seed=2, start=(1, 2, 3, 4, 5)),
    "a random start": Call("Himmelblau", "Newton-CG", seed=7),
    "float32": Call("Rosenbrock", "L-BFGS-B", dtype="float32"),
    "bounds": Call("Rosenbrock in a box", "L-BFGS-B"),
    "bounds switched off": Call("Rosenbrock in a box", "L-BFGS-B", bounds=False),
    "constraints": Call("HS71", "SLSQP"),
    "an interior point": Call("Rosenbrock in a disc", "trust-constr", max_iterations=12),
    "constraints without gradients": Call("HS71", "COBYLA", max_evaluations=80),
    "least squares": Call("NIST MGH09", "trf", options={"loss": "soft_l1", "xtol": 1e-12}),
    "Levenberg-Marquardt": Call("NIST Misra1a", "lm", max_iterations=3),
    "a random search": Call("Rastrigin", "dual_annealing", options={"maxiter": 20}, seed=3),
    "a population in a window": Call("Himmelblau", "differential_evolution", max_iterations=4, options={"popsize": 5}),
    "hops under constraints": Call("Rosenbrock in a disc", "basinhopping", options={"niter": 2}, seed=1),
    "a grid": Call("Saddle", "brute", options={"Ns": 9}),
    "homology": Call("HS71", "shgo", options={"n": 20}, max_evaluations=150),
    "a budget of closure calls": Call("Rosenbrock", "Nelder-Mead", max_evaluations=33),
    "a budget that the method has not": Call("Rosenbrock", "COBYQA", max_iterations=9),
    "a pace": Call("Beale", "dogleg", pace=0.01),
    "on the device": Call("Rosenbrock", "trust-krylov", options={"gtol": 1e-9}, engine="torch", max_evaluations=90),
    "squares on the device": Call("NIST Misra1a", "lm", engine="torch", max_iterations=3),
}
NUMBERS = "[float(optimizer.result.fun), int(optimizer.history[-1].index)]"


def valley(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def waves(x):
    return (np.pi * x).sin().sum() + torch.linalg.vector_norm(x)


def rows_of(x):
    return torch.stack([1 - x[0], 10 * (x[1] - x[0] ** 2)])


OWN = {
    "a function": Call(of_function(valley, [-1.2, 1.0]), "BFGS"),
    "one that uses modules": Call(of_function(waves, [0.3, 0.4, 0.5]), "CG", max_iterations=5),
    "float32 and bounds": Call(of_function(valley, [-1.2, 0.4], bounds=(-2.0, 0.5)), "L-BFGS-B", dtype="float32"),
    "bounds of each": Call(
        of_function(valley, [-1.2, 0.4], bounds=(torch.tensor([-2.0, 0.0]), torch.tensor([0.5, 1.0]))), "TNC"
    ),
    "residuals": Call(of_function(valley, [-1.2, 1.0], residuals=rows_of), "trf"),
}


@pytest.fixture(scope="module")
def reproduced():
    """What each script ends with: all are run one after another, each in a namespace of its own."""
    sources = {name: script(call) for name, call in {**CALLS, **OWN}.items()}
    code = (
        "import json, sys, warnings\n"
        "ends = {}\n"
        "for name, source in json.load(sys.stdin).items():\n"
        "    space = {'__name__': '__main__'}\n"
        "    with warnings.catch_warnings():\n"
        "        warnings.simplefilter('ignore')\n"
        "        exec(compile(source, name, 'exec'), space)\n"
        f"    ends[name] = eval({NUMBERS!r}, space)\n"
        "print('ENDS', json.dumps(ends))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(sources), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("iterations  ") == len(sources)
    return json.loads(done.stdout.split("ENDS ")[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", {**CALLS, **OWN})
def test_a_script_reproduces_its_run(name, reproduced):
    row = run({**CALLS, **OWN}[name])
    assert not row.failed, row.reason
    loss, iterations = reproduced[name]
    assert iterations == row.iterations > 0
    assert loss == pytest.approx(row.loss, rel=1e-9, abs=1e-12)


@pytest.mark.slow
def test_a_script_runs_by_itself(tmp_path):
    path = tmp_path / "again.py"
    path.write_text(script(CALLS["plain"]))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True, cwd=tmp_path)
    row = run(CALLS["plain"])
    assert done.stdout.splitlines() == [
        f"loss        {row.loss:.10g}",
        f"iterations  {row.iterations}",
        f"ended       {row.reason}",
    ]


def test_ones_own_method_travels_with_the_script(capsys):
    @method("walk")
    def walk(fun, x0, grad, *, rate=1e-3):
        x = x0
        for _ in range(20):
            x = x - rate * grad(x) / np.linalg.norm(grad(x))
            yield x

    call = Call("Rosenbrock", "walk", options={"rate": 0.01})
    row, source = run(call), script(call)
    unregister("walk")
    assert source.count('@method("walk", needs="gradient")') == 1
    exec(compile(source, "script", "exec"), {})  # registers it again
    unregister("walk")
    assert capsys.readouterr().out.splitlines()[:2] == [f"loss        {row.loss:.10g}", "iterations  20"]


def test_writing_a_script_leaves_a_model_where_it_is():
    x = torch.nn.Parameter(torch.ones(2))
    call = Call(of_model([x], lambda: x.square().sum()), "BFGS")
    run(call)
    end = x.detach().clone()
    script(call)
    assert torch.equal(x, end)
    assert end.abs().max() < 1e-3


def test_the_engine_is_said_where_it_was_asked_for():
    source = script(Call("Rosenbrock", "TRUST-ncg", engine="torch"))
    assert source.startswith('"""Rosenbrock by trust-ncg (torch)."""')
    assert 'MinimizeWrapper(problem.parameters, "trust-ncg", engine="torch")' in source


def test_only_what_differs_is_said():
    assert script(Call("Rosenbrock", "trust-ncg")).split("\n\n")[:3] == [
        '"""Rosenbrock by trust-ncg."""',
        "from torchmin_nb import MinimizeWrapper\nfrom torchmin_nb.problems import PROBLEMS",
        'problem = PROBLEMS["Rosenbrock"].make()\n'
        'optimizer = MinimizeWrapper(problem.parameters, "trust-ncg")\n'
        "optimizer.step(problem.closure)",
    ]


@pytest.mark.parametrize("name", {**CALLS, **OWN})
def test_lines_are_short_enough_to_read(name):
    assert max(map(len, script({**CALLS, **OWN}[name]).splitlines())) <= 110


def test_what_cannot_be_copied_is_a_clear_gap():
    weight = torch.eye(2)
    model = torch.nn.Linear(1, 1)
    of_a_model = script(Call(of_model(model, lambda: model.weight.square().sum()), "CG"))
    of_a_lambda = script(Call(of_function(lambda x: x.square().sum(), [1.0]), "CG"))

    def bent(x):
        return x @ weight @ x

    with_names = script(Call(of_function(bent, torch.ones(2)), "CG"))
    limited = script(
        Call(of_function(valley, [0.0, 0.0], constraints=[Constraint(lambda x: x.sum(), upper=1)]), "SLSQP")
    )
    assert "# Insert here: the model and the closure of Linear" in of_a_model
    assert "raise NotImplementedError" in of_a_lambda
    assert "# Insert here: weight, which bent uses." in with_names
    assert "# Insert here: the constraints of valley." in limited
    for source in (of_a_model, of_a_lambda, with_names, limited):
        compile(source, "script", "exec")
