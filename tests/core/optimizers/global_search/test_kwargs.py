"""The keywords of the searches: read, and refused."""

import math

import pytest
import scipy.optimize
import torch

from tests.core.optimizers.global_search.searches import EACH, EACH_BOXED, Loss, bowl, himmelblau, optimizer, run, short
from torchmin_nb import GLOBAL_METHODS
from torchmin_nb.errors import (
    ArgumentError,
    ArgumentTypeError,
    MemoryBudgetError,
    UnknownOptionError,
)


@EACH_BOXED
def test_bounds_in_all_forms(name):
    forms = [(-3.0, 4.0), [(-3.0, 4.0)] * 2, scipy.optimize.Bounds([-3, -3], [4, 4]), scipy.optimize.Bounds(-3, 4)]
    ends = [run(name, Loss(himmelblau, [0.0, 0.0]), short(name, bounds=bounds)).result.x for bounds in forms]
    loss = Loss(himmelblau, [0.0, 0.0])
    kwargs = short(name)
    del kwargs["bounds"]
    made = optimizer(name, [{"params": [loss.x], "bounds": (-3, torch.tensor([4.0, 4.0]))}], kwargs)
    made.step(loss)
    for end in ends:
        assert end.tolist() == made.result.x.tolist()


@EACH_BOXED
@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (None, "searches a box"),
        ((-1, math.inf), "finite"),
        ([(-1, 1), (None, 1)], "finite"),
        ([(-1, 1)], "1 pairs for 2 variables"),
        ([(-1, 1)] * 3, "3 pairs for 2 variables"),
        ([(-1, 1), (2, 1)], "low must not exceed high"),
        ((1, -1), "low must not exceed high"),
        ([(-1, math.nan), (0, 1)], "low must not exceed high|finite"),
        ("wide", "pair"),
    ],
)
def test_bounds_that_cannot_be_are_refused_before_any_call(name, bounds, message):
    with pytest.raises(ArgumentError, match=message):
        optimizer(name, [Loss(bowl, [0.0, 0.0]).x], short(name, bounds=bounds))


@EACH_BOXED
def test_bounds_from_two_places_are_refused(name):
    groups = [{"params": [Loss(bowl, [0.0, 0.0]).x], "bounds": (-1, 1)}]
    with pytest.raises(ArgumentError, match="different bounds"):
        optimizer(name, groups, short(name))


@EACH
def test_unknown_keywords(name):
    with pytest.raises(UnknownOptionError, match="'colour'; it has ") as raised:
        optimizer(name, [Loss(bowl, [0.0]).x], short(name, colour=1))
    assert all(row in str(raised.value) for row in GLOBAL_METHODS[name].options)
    with pytest.raises(UnknownOptionError, match="torchmin_nb sets it"):
        optimizer(name, [Loss(bowl, [0.0]).x], short(name, args=()))
    with pytest.raises(ArgumentTypeError, match="must be a dict"):
        optimizer(name, [Loss(bowl, [0.0]).x], [("bounds", (0, 1))])
    with pytest.raises(ArgumentTypeError, match="no keyword 'lr'"):
        optimizer(name, [Loss(bowl, [0.0]).x], short(name), lr=1)


WRONG = {"int": 1.5, "float": "hot", "bool": "yes", "choice": "blue", "callable": 3, "dict": {"colour": 1}, "weight": 7}
WRONG |= {"choice or callable": "blue", "choice or array": "blue"}
ROWS = [(name, row) for name, spec in GLOBAL_METHODS.items() for row in spec.options.values() if row.kind in WRONG]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{name}-{row.name}" for name, row in ROWS])
def test_wrong_values(name, row):
    wrong = [WRONG[row.kind]]
    wrong += [] if row.low is None or row.ours else [row.low - 1]
    wrong += [] if row.default is None or row.none else [None]
    for value in wrong:
        with pytest.raises(ArgumentError, match=row.name):
            optimizer(name, [Loss(bowl, [0.0]).x], short(name, **{row.name: value}))


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("dual_annealing", dict(rng=1, seed=2), "not both"),
        ("dual_annealing", dict(x0=[1.0]), "array of 2 numbers"),
        ("dual_annealing", dict(x0=[9.0, 0.0]), "outside"),
        ("differential_evolution", dict(x0="there"), "array of 2 numbers"),
        ("differential_evolution", dict(vectorized=True, updating="immediate"), "deferred"),
        ("differential_evolution", dict(init=[[1.0], [2.0]]), r"shape \(2, 1\)"),
        ("differential_evolution", dict(init=[[1.0, math.nan]] * 9), "init"),
        ("differential_evolution", dict(integrality=[True] * 3), "integrality"),
        ("differential_evolution", dict(polish=3), "polish"),
        ("brute", dict(finish=3), "finish"),
        ("brute", dict(ranges=(0, 1)), "not both"),
        ("brute", dict(bounds=None, ranges=[(0, 1)]), "1 entries for 2"),
        ("brute", dict(bounds=None, ranges=[(0, 1), (1, 0)]), "rise"),
        ("brute", dict(bounds=None, ranges=[(0, 1), slice(0, 1, -1)]), "rise"),
        ("brute", dict(bounds=None, ranges=[(0, 1), (0, math.inf)]), "finite"),
        ("brute", dict(bounds=None, ranges=[(0, 1), "x"]), "range must be"),
        ("brute", dict(Ns=10**8), "grid of 1e\\+16 points"),
    ],
)
def test_refusals(name, kwargs, message):
    with pytest.raises((ArgumentError, MemoryBudgetError), match=message):
        optimizer(name, [Loss(bowl, [0.0, 0.0]).x], short(name, **kwargs))


@pytest.mark.parametrize(
    ("name", "keyword"), [("basinhopping", "take_step"), ("differential_evolution", "integrality"), ("brute", "ranges")]
)
def test_keywords_of_x_do_not_go_with_scales(name, keyword):
    value = {"take_step": lambda x: x, "integrality": [True, False], "ranges": [(0, 1), (0, 1)]}[keyword]
    loss = Loss(bowl, [0.5, 0.5])
    kwargs = short(name, **{keyword: value})
    if keyword == "ranges":
        kwargs.pop("bounds")
    made = optimizer(name, [{"params": [loss.x], "scale": 2.0}], kwargs)
    with pytest.raises(ArgumentError, match=keyword):
        made.step(loss)
    assert loss.calls == 0


@EACH
def test_the_callers_dicts_are_left_alone(name):
    options = {"maxiter": 7}
    local = {"method": "L-BFGS-B", "options": options}
    kwargs = short(name)
    if name == "shgo":
        kwargs["options"] = {"maxiter": 1}
    before = {key: value.copy() if isinstance(value, dict) else value for key, value in kwargs.items()}
    made = run(name, Loss(himmelblau, [1.0, 1.0]), kwargs, local)
    made.step(Loss(himmelblau, [1.0, 1.0]))
    assert kwargs == before
    assert local == {"method": "L-BFGS-B", "options": {"maxiter": 7}}
    assert options == {"maxiter": 7}
