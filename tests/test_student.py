"""The course for a class: solutions out, seeds in, and checks that tell right from wrong and nothing else."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from notebooks.student import main, seed_of, student_copy, write

pytestmark = pytest.mark.slow

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
KEYS = {"schema_version", "grade_id", "grade", "locked", "solution", "task"}

BEFORE = "print('before')"
FIRST = "SEED = 0\nnumber = 10 + SEED\nprint(number)"
SOLUTION = "def twice(x):\n    # BEGIN SOLUTION\n    return 2 * x\n    # END SOLUTION"
CHECK = "assert twice(number) == 2 * (10 + SEED), 'twice the number'"


def exercise(*, solution=SOLUTION, first=FIRST, check=CHECK):
    """A small notebook, as if stored executed."""
    cells = [
        nbformat.v4.new_markdown_cell("# 90 · Small"),
        nbformat.v4.new_code_cell(BEFORE),
        nbformat.v4.new_markdown_cell("## Exercise\n\nWrite `twice`."),
        nbformat.v4.new_code_cell(first),
        nbformat.v4.new_code_cell(solution, metadata={"tags": ["solution"]}),
        nbformat.v4.new_code_cell(check, metadata={"tags": ["check"]}),
        nbformat.v4.new_markdown_cell("## Remember"),
        nbformat.v4.new_code_cell("print('after')"),
    ]
    for number, cell in enumerate(cells):
        if cell.cell_type == "code":
            cell.execution_count = number
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="stored")]
    return nbformat.v4.new_notebook(cells=cells)


def run(book):
    NotebookClient(book, timeout=60, kernel_name="python3").execute()
    return book


def test_the_solution_is_out_and_its_surroundings_stay():
    cell = student_copy(exercise(), "90_small").cells[4]
    assert cell.source == "def twice(x):\n    # YOUR CODE HERE\n    raise NotImplementedError"


def test_outputs_go_from_the_seed_to_the_next_section():
    cells = student_copy(exercise(), "90_small", "ada").cells
    kept = {index: bool(cell.outputs) for index, cell in enumerate(cells) if cell.cell_type == "code"}
    assert kept == {1: True, 3: False, 4: False, 5: False, 7: True}
    assert [cells[index].execution_count for index in (1, 3, 4, 5, 7)] == [1, None, None, None, 7]


def test_the_book_that_was_read_is_left_alone():
    book = exercise()
    student_copy(book, "90_small", "ada")
    assert [cell.source for cell in book.cells] == [cell.source for cell in exercise().cells]
    assert all(cell.outputs for cell in book.cells if cell.cell_type == "code")
    assert not any("nbgrader" in cell.metadata for cell in book.cells)


def test_seeds_belong_to_a_student_and_a_notebook():
    seeds = {(student, book): seed_of(student, book) for student in ("ada", "bob", "7") for book in ("10_a", "20_b")}
    assert len(set(seeds.values())) == len(seeds)
    assert all(1 <= seed <= 9999 for seed in seeds.values())
    assert seed_of("ada", "10_a") == seeds["ada", "10_a"]
    assert seed_of("", "10_a") == 0
    source = student_copy(exercise(), "90_small", "ada").cells[3].source
    assert source.splitlines()[0] == f"SEED = {seed_of('ada', '90_small')}"
    assert student_copy(exercise(), "90_small").cells[3].source == FIRST


def test_the_check_does_not_show_what_it_asks_for():
    source = student_copy(exercise(), "90_small").cells[5].source
    assert "twice" not in source
    assert "assert" not in source.lower().replace("assertionerror", "")


def test_metadata_are_nbgraders():
    """Schema 3 of nbgrader: the four required keys, an id of word characters, points where graded, nothing else."""
    cells = student_copy(exercise(), "90_small", points=2.5).cells
    told = [cell.metadata["nbgrader"] for cell in cells if "nbgrader" in cell.metadata]
    assert [set(each) for each in told] == [KEYS, KEYS | {"points"}]
    assert [each["schema_version"] for each in told] == [3, 3]
    assert [(each["solution"], each["grade"], each["locked"]) for each in told] == [
        (True, False, False),
        (False, True, True),
    ]
    assert told[1]["points"] == 2.5
    assert all(re.fullmatch(r"[a-zA-Z0-9_\-]+", each["grade_id"]) for each in told)
    assert told[0]["grade_id"] != told[1]["grade_id"]


def test_a_right_answer_passes():
    book = student_copy(exercise(), "90_small", "ada")
    book.cells[4].source = "def twice(x):\n    return x + x"
    assert run(book).cells[5].outputs[0].text == "solved\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("def twice(x):\n    return x", "not solved: twice the number"),
        ("pass", "not solved: name 'twice' is not defined"),
    ],
    ids=["wrong", "missing"],
)
def test_a_wrong_answer_fails_with_a_reason_and_no_answer(answer, reason):
    book = student_copy(exercise(), "90_small", "ada")
    book.cells[4].source = answer
    with pytest.raises(CellExecutionError) as caught:
        run(book)
    assert reason in str(caught.value)
    assert "2 * (10 + SEED)" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solution": "def twice(x):\n    return 2 * x"}, "must stand between the lines"),
        ({"solution": SOLUTION + "\n# END SOLUTION"}, "must stand between the lines"),
        ({"first": "number = 10"}, "no cell with a line SEED = 0"),
    ],
    ids=["no marks", "a mark too many", "no seed"],
)
def test_an_exercise_that_would_leak_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        student_copy(exercise(**changes), "90_small")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_solution_of_the_course_leaks(path):
    book = nbformat.read(path, as_version=4)
    copy = student_copy(book, path.stem, "ada")
    nbformat.validate(copy)
    text = nbformat.writes(copy)
    assert "BEGIN SOLUTION" not in text
    for before, after in zip(book.cells, copy.cells, strict=True):
        tags = before.metadata.get("tags", [])
        if "solution" in tags:
            hidden = before.source.split("# BEGIN SOLUTION\n")[1].split("# END SOLUTION")[0].strip()
            assert hidden
            assert hidden not in after.source
        elif "check" not in tags:
            assert after.source == re.sub(
                r"^SEED = 0$", f"SEED = {seed_of('ada', path.stem)}", before.source, flags=re.M
            )


def test_the_command_writes_the_course(tmp_path, capsys):
    main(["ada", "--to", str(tmp_path / "student")])
    assert sorted(each.name for each in (tmp_path / "student").iterdir()) == [path.name for path in PATHS]
    assert f"{len(PATHS)} notebooks for ada in student/" in capsys.readouterr().out


def test_writing_again_replaces(tmp_path):
    source = tmp_path / "course"
    source.mkdir()
    nbformat.write(exercise(), source / "90_small.ipynb")
    first = [path.read_text() for path in write("ada", tmp_path / "out", source)]
    second = [path.read_text() for path in write("bob", tmp_path / "out", source)]
    assert len(first) == len(second) == 1
    assert first != second
