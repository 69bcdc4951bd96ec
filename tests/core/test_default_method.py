"""The method where none is named: one that takes the bounds and constraints that are there, as SciPy chooses it."""

import copy
import io

import numpy as np
import pytest
import scipy.optimize
import torch

from torchmin_nb import Constraint, MinimizeWrapper, minimize
from torchmin_nb.errors import ArgumentError, UnknownOptionError

UNNAMED = [None, {}, {"method": None}, {"tol": 1e-8}, {"options": {"maxiter": 50}}]
ROUND = Constraint(lambda: torch.zeros(()), 0, 0)
PARABOLA = np.array([0.5, 2.0])


def parameter(start=(0.25, 0.25), dtype=torch.float64):
    return torch.nn.Parameter(torch.tensor(start, dtype=dtype))


def parabola(x):
    return ((x - torch.tensor(PARABOLA, dtype=x.dtype)) ** 2).sum()


def bounded(*parameters, bounds=(0, 1)):
    return [{"params": list(parameters), "bounds": bounds}]


@pytest.mark.parametrize("arguments", UNNAMED)
@pytest.mark.parametrize(
    ("bounds", "constraints", "expected"),
    [
        (None, (), "BFGS"),
        ((0, 1), (), "L-BFGS-B"),
        ((None, None), (), "L-BFGS-B"),
        ((0, torch.tensor([1.0, np.inf])), (), "L-BFGS-B"),
        (None, ROUND, "SLSQP"),
        ((0, 1), ROUND, "SLSQP"),
        ((0, 1), [ROUND], "SLSQP"),
        ((0, 1), [], "L-BFGS-B"),
        ((0, 1), None, "L-BFGS-B"),
        (None, None, "BFGS"),
    ],
)
def test_what_is_there_decides(arguments, bounds, constraints, expected):
    given = arguments if constraints == () else {**(arguments or {}), "constraints": constraints}
    optimizer = MinimizeWrapper(bounded(parameter(), bounds=bounds), given)
    assert (optimizer.name, optimizer.request.spec.name) == (expected, expected)
    assert optimizer.history.method == expected
    assert optimizer.state_dict()["run"]["method"] == expected
    assert repr(optimizer).startswith(f"MinimizeWrapper({expected!r}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_runs_as_scipys_own_choice(dtype):
    x = parameter(dtype=dtype)
    optimizer = MinimizeWrapper(bounded(x))
    optimizer.step(lambda: parabola(x))
    plain = scipy.optimize.minimize(
        lambda z: ((z - PARABOLA) ** 2).sum(), [0.25] * 2, jac=lambda z: 2 * (z - PARABOLA), bounds=[(0, 1)] * 2
    )
    np.testing.assert_allclose(optimizer.result.x, plain.x, atol=1e-6)
    assert optimizer.history.method == "L-BFGS-B"
    assert optimizer.result.message == plain.message
    same = minimize(parabola, torch.full((2,), 0.25, dtype=dtype), bounds=[(0, 1)] * 2)
    assert (same.nit, same.nfev, same.history.method) == (optimizer.result.nit, optimizer.result.nfev, "L-BFGS-B")


def test_bounds_of_one_group_among_several_decide():
    x, y, frozen = parameter(), parameter(), parameter().requires_grad_(False)
    assert MinimizeWrapper([{"params": [x]}, *bounded(y)]).name == "L-BFGS-B"
    assert MinimizeWrapper([{"params": [x]}, *bounded(frozen)]).name == "BFGS"


def test_groups_that_change_are_heeded():
    x, y = parameter(), parameter()
    optimizer = MinimizeWrapper([x])
    assert optimizer.name == "BFGS"
    optimizer.add_param_group(bounded(y)[0])
    assert optimizer.name == "L-BFGS-B"
    optimizer.param_groups[1]["bounds"] = None
    optimizer.step(lambda: parabola(x) + parabola(y))
    assert optimizer.history.method == "BFGS"
    x.data.fill_(0.25)
    optimizer.param_groups[0]["bounds"] = (0, 1)
    run = optimizer.start(lambda: parabola(x) + parabola(y))
    run.wait(60)
    assert (run.history.method, float(x.detach().max())) == ("L-BFGS-B", 1.0)


def test_a_state_dict_brings_its_bounds_and_goes_on():
    x, y = parameter(), parameter()
    first = MinimizeWrapper(bounded(x), {"options": {"maxiter": 1}})
    first.step(lambda: parabola(x))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = MinimizeWrapper([y])
    second.load_state_dict(torch.load(file, weights_only=True))
    assert (second.name, second.history.method) == ("L-BFGS-B", "L-BFGS-B")


def test_copies_choose_as_the_original():
    other = copy.deepcopy(MinimizeWrapper([parameter()]))
    other.add_param_group(bounded(parameter())[0])
    assert other.name == "L-BFGS-B"


def test_options_belong_to_the_method_that_is_chosen():
    x = parameter()
    assert dict(MinimizeWrapper(bounded(x), {"options": {"maxcor": 3}}).request.options) == {"maxcor": 3}
    with pytest.raises(UnknownOptionError, match="L-BFGS-B has no option 'norm'"):
        MinimizeWrapper(bounded(x), {"options": {"norm": 2}})
    with pytest.raises(UnknownOptionError, match="BFGS has no option 'maxcor'"):
        MinimizeWrapper([x], {"options": {"maxcor": 3}})


def test_the_users_dict_is_neither_changed_nor_read_later():
    given = {"options": {"maxiter": 7}}
    optimizer = MinimizeWrapper([parameter()], given)
    assert given == {"options": {"maxiter": 7}}
    given["options"]["norm"] = 2
    optimizer.add_param_group(bounded(parameter())[0])
    assert dict(optimizer.request.options) == {"maxiter": 7}


@pytest.mark.parametrize("named", ["BFGS", {"method": "bfgs"}, "trust-ncg"])
def test_a_method_that_is_named_is_kept(named):
    with pytest.raises(ArgumentError, match="cannot take bounds"):
        MinimizeWrapper(bounded(parameter()), named)
    assert MinimizeWrapper(bounded(parameter()), "TNC").name == "TNC"


def test_what_can_be_read_only_once_is_read_once():
    x = parameter()
    optimizer = MinimizeWrapper([x], {"bounds": iter([(0, 1), (0, 1)])})
    assert optimizer.name == "L-BFGS-B"
    for _ in range(2):
        optimizer.step(lambda: parabola(x))
        np.testing.assert_allclose(optimizer.result.x, [0.5, 1.0], atol=1e-6)


def test_bounds_in_both_places_are_refused_as_ever():
    with pytest.raises(ArgumentError, match="one place"):
        MinimizeWrapper(bounded(parameter()), {"bounds": [(0, 1)] * 2})
