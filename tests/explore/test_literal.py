"""Copied code compiles and carries the same values, whatever the names and values are."""

import ast

import numpy as np
import pytest
import torch

from torchmin_nb import Constraint, method
from torchmin_nb.explore import Call, of_function, of_model, report_html, run, script, unregister
from torchmin_nb.explore.literal import comment, is_name, literal, quoted
from torchmin_nb.explore.table import RunTable

NAMES = [
    'fit"""\nimport os\nos.abort()\n"""',
    "it's",
    'say "hello"',
    "both ' and \"",
    "back\\slash\\",
    "\\",
    'ends with "',
    "line\nbreak",
    "return\rcarriage",
    "\u2028separator\x0c",
    "nul\x00",
    "{braces} %s",
    "ünïcode – 日本",
]


def bowl(x):
    return ((x - 3) ** 2).sum()


def strings(code):
    """All string values of a script."""
    return [
        node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant) and type(node.value) is str
    ]


def imported(code):
    tree = ast.parse(code)
    return {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}


@pytest.mark.parametrize("name", NAMES)
def test_a_problem_of_any_name_gives_a_script_that_compiles(name):
    call = Call(of_function(bowl, [1.0, 2.0], name=name), "BFGS")
    code = script(call)
    assert ast.get_docstring(ast.parse(code), clean=False) == f"{name} by BFGS."
    assert imported(code) == {"torch"}


@pytest.mark.parametrize("name", NAMES)
def test_comments_hold_any_name(name):
    model = torch.nn.Linear(2, 1)
    subject = of_model(
        model, lambda: model(torch.ones(2)).square().sum(), name=name, constraints=[Constraint(lambda: model.bias)]
    )
    code = script(Call(subject, "SLSQP"))
    assert ast.get_docstring(ast.parse(code), clean=False) == f"{name} by SLSQP."
    assert imported(code) == set()
    for line in code.splitlines()[1:]:
        assert "abort" not in line or line.lstrip().startswith("#")


@pytest.mark.parametrize("name", NAMES)
def test_a_method_of_any_name_is_registered_and_chosen_by_it(name):
    @method(name)
    def downhill(fun, x0, grad, *, rate=0.1):
        yield x0 - rate * grad(x0)

    try:
        code = script(Call(of_function(bowl, [1.0, 2.0]), name, options={"rate": 0.2}))
        assert strings(code).count(name) == 2  # where it is registered, and where it is chosen
        row = run(Call(of_function(bowl, [1.0, 2.0], name=name), name), name=name)
        report_html(RunTable().add(row), title=name)
    finally:
        unregister(name)


def test_a_script_with_infinite_bounds_runs():
    bounds = (torch.tensor([-torch.inf, 0.0]), torch.tensor([0.5, torch.inf]))
    call = Call(of_function(bowl, [0.0, 1.0], name='"""', bounds=bounds), "L-BFGS-B")
    made = {}
    exec(script(call), made)
    torch.testing.assert_close(made["problem"].parameters[0].detach(), torch.tensor([0.5, 3.0], dtype=torch.float64))


VALUES = [
    *NAMES,
    0.1,
    float("inf"),
    float("-inf"),
    [1.0, float("inf")],
    (1,),
    (),
    (float("-inf"), "a'b"),
    {"a": 1, "b": [1, 2]},
    {"not a name": 1.5},
    {"lambda": 1, "x": None},
    {},
    True,
    np.array([[1.0, np.inf], [2.0, 3.0]]),
    np.float64(0.25),
    torch.tensor([1.0, -torch.inf]),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_literal_gives_the_value_back(value):
    read = eval(literal(value), {"__builtins__": {"dict": dict, "float": float}})
    plain = value.tolist() if hasattr(value, "tolist") else value
    assert read == plain
    assert type(read) is type(plain)


def test_a_literal_that_is_not_a_number():
    assert np.isnan(eval(literal(float("nan"))))


def test_words():
    assert quoted("trust-ncg") == '"trust-ncg"'
    assert comment("my model") == "my model"
    assert "\n" not in comment("a\nb")
    assert [is_name(name) for name in ("rate", "lambda", "a b", "", 3)] == [True, False, False, False, False]
