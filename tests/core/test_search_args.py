"""`search_args`: one name for the keywords of every global method; the older names do the same."""

import inspect

import numpy as np
import pytest
import torch

from torchmin_nb import (
    BasinHoppingWrapper,
    BruteWrapper,
    DifferentialEvolutionWrapper,
    DirectWrapper,
    DualAnnealingWrapper,
    SHGOWrapper,
)
from torchmin_nb.errors import ArgumentError, ArgumentTypeError, UnknownOptionError

BOX = [(-2.0, 2.0), (-1.0, 3.0)]
OLDER = {
    BasinHoppingWrapper: ("basinhopping_kwargs", {"niter": 3, "rng": 0}),
    BruteWrapper: ("brute_kwargs", {"ranges": BOX, "Ns": 6}),
    DifferentialEvolutionWrapper: ("de_kwargs", {"bounds": BOX, "maxiter": 3, "rng": 0}),
    DirectWrapper: ("direct_kwargs", {"bounds": BOX, "maxiter": 8}),
    DualAnnealingWrapper: ("da_kwargs", {"bounds": BOX, "maxiter": 5, "rng": 0}),
    SHGOWrapper: ("shgo_kwargs", {"bounds": BOX, "n": 32}),
}
EACH = pytest.mark.parametrize(("wrapper", "older", "given"), [(w, *row) for w, row in OLDER.items()])


def searched(wrapper, *positional, **keywords):
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer = wrapper([x], *positional, start_check=False, **keywords)
    optimizer.step(lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    return optimizer


def require_same(one, other):
    np.testing.assert_array_equal(one.result.x, other.result.x)
    assert (one.result.nfev, one.result.nit, repr(one)) == (other.result.nfev, other.result.nit, repr(other))
    assert one.history.options == other.history.options


@EACH
def test_the_name_the_older_name_and_the_position_do_the_same(wrapper, older, given):
    before = {name: list(value) if isinstance(value, list) else value for name, value in given.items()}
    by_name = searched(wrapper, search_args=given)
    require_same(by_name, searched(wrapper, **{older: given}))
    place = list(inspect.signature(wrapper).parameters).index("search_args")
    require_same(by_name, searched(wrapper, *[None] * (place - 1), given))
    assert given == before
    for name in given:
        assert name in by_name.history.options


@EACH
@pytest.mark.parametrize("empty", [False, True])
def test_both_names_at_once_are_refused(wrapper, older, given, empty):
    with pytest.raises(ArgumentError, match=rf"search_args=.*{older}=.*pass search_args only"):
        searched(wrapper, search_args=given, **{older: {} if empty else given})


@EACH
def test_one_of_them_may_be_none(wrapper, older, given):
    require_same(searched(wrapper, search_args=given, **{older: None}), searched(wrapper, search_args=given))
    require_same(searched(wrapper, search_args=None, **{older: given}), searched(wrapper, search_args=given))


@EACH
def test_the_older_name_of_another_wrapper_is_unknown(wrapper, older, given):
    for name, _ in OLDER.values():
        if name != older:
            with pytest.raises(ArgumentTypeError, match=rf"no keyword '{name}'; it has .*max_seconds"):
                searched(wrapper, search_args=given, **{name: {}})


@EACH
def test_what_is_said_by_either_name_is_checked(wrapper, older, given):
    for name in ("search_args", older):
        with pytest.raises(UnknownOptionError, match="nonsense"):
            searched(wrapper, **{name: {**given, "nonsense": 1}})
        with pytest.raises(ArgumentTypeError, match="must be a dict, got int"):
            searched(wrapper, **{name: 3})
