"""Every exercise as students get it: the reference solution passes whatever the ID, and wrong answers do not.

TORCHMIN_NB_STUDENTS is the number of IDs, 1 unless it is set; `make proof` takes 20. The stored notebooks have seed 0.
"""

import os

import pytest

from tests.exercises.sliced import Exercise, exercises
from tests.exercises.wrong import WRONG

pytestmark = pytest.mark.slow

STUDENTS = [f"2023{number:04d}" for number in range(int(os.environ.get("TORCHMIN_NB_STUDENTS", "1")))]


@pytest.fixture(scope="module", params=exercises(), ids=lambda path: path.stem)
def exercise(request):
    return Exercise(request.param)


@pytest.mark.timeout(1200)
def test_the_solution_passes_for_every_student(exercise):
    for student in STUDENTS:
        exercise.solve(student)


def test_wrong_answers_fail(exercise):
    for piece, instead in WRONG[exercise.name]:
        wrong = exercise.solution.replace(piece, instead)
        assert wrong != exercise.solution, f"{piece!r} is not in the solution"
        with pytest.raises(AssertionError, match="not solved"):
            exercise.solve(STUDENTS[0], solution=wrong)


def test_each_exercise_has_three_wrong_answers():
    assert all(len(answers) == 3 for answers in WRONG.values())
    assert set(WRONG) == {path.stem for path in exercises()}


def test_two_students_have_different_seeds(exercise):
    seeds = {student: exercise.seed_cell(student) for student in ("ada", "bob")}
    assert seeds["ada"] != seeds["bob"]
