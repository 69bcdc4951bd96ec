"""The mutations fit the course and their record, and one of each kind is noticed. All of them: `make mutants`."""

import ast

import pytest

from tests.mutants.mutation import KINDS, PACKAGE, Mutant, code_cells
from tests.mutants.run import SURVIVED, recorded
from tests.mutants.session import noticed
from tests.mutants.table import MUTANTS

pytestmark = pytest.mark.slow

QUICK = {
    "text": Mutant("30_quasi_newton", "text", "(slope(b) - slope(a))", "(slope(b) + slope(a))"),
    "constant": next(mutant for mutant in MUTANTS if mutant.notebook == "45_dogleg"),
    "library": next(mutant for mutant in MUTANTS if mutant.kind == "library"),
    "picture": next(mutant for mutant in MUTANTS if mutant.kind == "picture" and mutant.module),
}


@pytest.fixture(params=MUTANTS, ids=str)
def mutant(request):
    return request.param


def test_what_is_replaced_stands_once_in_the_source(mutant):
    assert mutant.source.count(mutant.find) == 1
    assert mutant.kind in KINDS


def test_a_mutation_is_still_python(mutant):
    if mutant.module:
        ast.parse(mutant.mutated(mutant.source))
    else:
        ast.parse(mutant.mutated(dict(code_cells(mutant.notebook))[mutant.cell].source))


def test_there_are_sixty_mutations_and_all_kinds():
    assert len(set(map(str, MUTANTS))) == len(MUTANTS) >= 60
    assert {mutant.kind for mutant in MUTANTS} == set(KINDS)


def test_all_mutations_were_noticed_when_they_ran_last():
    assert set(recorded()) == {str(mutant) for mutant in MUTANTS}
    assert SURVIVED not in recorded().values()


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_each_kind_is_noticed(kind):
    assert noticed([QUICK[kind]])[0] is not None


def test_a_change_that_changes_nothing_survives():
    assert noticed([Mutant("00_index", "text", "titles = []", "titles = list()")]) == [None]


def test_a_mutation_that_fits_nowhere_is_an_error():
    with pytest.raises(ValueError, match="not once"):
        Mutant("00_index", "text", "import", "").mutated("nothing here")


def test_the_package_is_not_changed():
    library = QUICK["library"]
    assert library.find in (PACKAGE / library.module).read_text()
